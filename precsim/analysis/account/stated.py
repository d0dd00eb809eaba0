"""What a report states, for the files that show it: `Report` itself imports those."""

from typing import Protocol

from precsim.analysis.account.rows import GroupRow, OperationRow


class Stated(Protocol):
    """The part of `Report` that is shown."""

    @property
    def policy(self) -> str:
        """The emulated arithmetic."""

    @property
    def reference(self) -> str:
        """The arithmetic of the exact run."""

    @property
    def of(self) -> str:
        """What is asked about."""

    @property
    def value(self) -> float:
        """The scalar in the emulated run."""

    @property
    def reference_value(self) -> float:
        """The scalar in the exact run."""

    @property
    def rows(self) -> tuple[OperationRow, ...]:
        """The operations, in the order of the program."""

    @property
    def cuts(self) -> tuple[str, ...]:
        """Operations that JAX cannot differentiate, in words."""

    @property
    def change(self) -> float:
        """The measured change of the scalar."""

    @property
    def remainder(self) -> float:
        """What the shares do not explain."""

    @property
    def gross(self) -> float:
        """The sum of the magnitudes of the shares."""

    @property
    def closes(self) -> bool:
        """Whether the remainder is small."""

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why there is no account."""

    def top(self, k: int = 3) -> tuple[str, ...]:
        """Return what loses most, in sentences."""

    def by_scope(self, depth: int | None = None) -> tuple[GroupRow, ...]:
        """Return the operations of each scope together."""

    def by_primitive(self) -> tuple[GroupRow, ...]:
        """Return the operations of each primitive together."""

    def by_line(self) -> tuple[GroupRow, ...]:
        """Return the operations of each source line together."""

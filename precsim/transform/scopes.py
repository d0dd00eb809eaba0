"""Scopes: paths such as "Model/layer3/Dense_0", the patterns that name them, and what they are."""

from fnmatch import fnmatchcase

from precsim.formats.arguments import shown

SOFTMAX = ("*softmax*", "*log*sum*exp*")
"""Names of softmax and its kin, in small letters: softmax, log_softmax, logsumexp, Softmax_0."""
NORMALISATION = (
    *("*layer*norm*", "*batch*norm*", "*group*norm*", "*rms*norm*", "*instance*norm*"),
    *("ln", "ln_*", "ln[0-9]*", "standardize"),
)
"""Names of normalisations, in small letters: LayerNorm_0, batch_norm, RMSNorm, ln_1."""

_KINDS = {"softmax": SOFTMAX, "normalisation": NORMALISATION}
_SEPARATORS = ":;,"


def check_pattern(pattern: str) -> None:
    """Refuse what names no scope."""
    if not isinstance(pattern, str):
        raise TypeError(f"scope of a rule is {shown(pattern)}; allowed is a string")
    is_text = pattern.isprintable() and not set(pattern) & set(_SEPARATORS)
    if not is_text or pattern != pattern.strip() or not all(pattern.split("/")):
        raise ValueError(
            f"scope of a rule is {shown(pattern)}; allowed are names, or patterns with *, ? and [], "
            f"joined by '/', without any of '{_SEPARATORS}', such as 'layer3' or 'attn*/scores'"
        )


def matches(pattern: str, scope: str) -> bool:
    """Return whether the parts of a pattern match consecutive parts of a scope."""
    wanted = pattern.split("/")
    parts = scope.split("/") if scope else []
    return any(
        all(map(fnmatchcase, parts[first:], wanted))
        for first in range(len(parts) - len(wanted) + 1)
    )


def kind_of(scope: str) -> str | None:
    """Return "softmax" or "normalisation", by the innermost part that names one; else None."""
    for part in reversed(scope.lower().split("/")):
        for kind, names in _KINDS.items():
            if any(fnmatchcase(part, name) for name in names):
                return kind
    return None

"""When an account is closed."""

from collections.abc import Mapping

from precsim.analysis.account.report import Report


def open_accounts(reports: Mapping[str, Report]) -> list[str]:
    """Return which accounts do not close although nothing stands against it.

    The remainder may be 1 % of the gross, and 1 % of the change where shares cancel less than
    tenfold.
    """
    found = []
    for name, report in reports.items():
        rest, gross, change = abs(report.remainder), report.gross, abs(report.change)
        is_open = rest > 0.01 * gross or (gross < 10 * change and rest > 0.01 * change)
        if is_open and not report.obstacles:
            found.append(f"{name}: {rest:.2g} of a change of {change:.2g}, gross {gross:.2g}")
    return found

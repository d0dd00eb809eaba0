"""`Tables`, where it was before; it is in `experiments.check` now."""

import experiments.check

Tables = experiments.check.Tables

"""Pictures in one style: figures of one or two columns, a colour per format, training runs."""

from precsim.analysis.plots.bounds import plot_bounds as plot_bounds
from precsim.analysis.plots.curves import finish as finish
from precsim.analysis.plots.curves import plot_curves as plot_curves
from precsim.analysis.plots.curves import plot_published as plot_published
from precsim.analysis.plots.exponents import plot_exponent_histogram as plot_exponent_histogram
from precsim.analysis.plots.figures import COLUMN_WIDTH as COLUMN_WIDTH
from precsim.analysis.plots.figures import PAGE_WIDTH as PAGE_WIDTH
from precsim.analysis.plots.figures import figure as figure
from precsim.analysis.plots.figures import save_figure as save_figure
from precsim.analysis.plots.heat_map import plot_heat_map as plot_heat_map
from precsim.analysis.plots.looks import format_color as format_color
from precsim.analysis.plots.looks import line_styles as line_styles
from precsim.analysis.plots.number_sets import plot_precision as plot_precision
from precsim.analysis.plots.number_sets import plot_values as plot_values
from precsim.analysis.plots.runs import plot_loss_curves as plot_loss_curves
from precsim.analysis.plots.runs import plot_loss_gaps as plot_loss_gaps
from precsim.analysis.plots.runs import plot_weight_drift as plot_weight_drift
from precsim.analysis.plots.shares import plot_share_map as plot_share_map
from precsim.analysis.plots.shares import plot_shares as plot_shares

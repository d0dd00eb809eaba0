"""Loss scaling and rounded weights and states, as transformations for optax."""

from precsim.training.compression.keep_masks import keep_masks as keep_masks
from precsim.training.recipes.rounded_states import round_states as round_states
from precsim.training.recipes.rounded_updates import compensate_params as compensate_params
from precsim.training.recipes.rounded_updates import master_params as master_params
from precsim.training.recipes.rounded_updates import round_params as round_params
from precsim.training.recipes.unscaling import apply_unscaled as apply_unscaled
from precsim.training.recipes.unscaling import get_loss_scale as get_loss_scale
from precsim.training.recipes.unscaling import scale_loss as scale_loss

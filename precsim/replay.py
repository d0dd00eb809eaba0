"""Runs as bits: recording, comparing and bisecting them, and finding what is not portable."""

from precsim.analysis.bisect import Divergence as Divergence
from precsim.analysis.bisect import RunComparison as RunComparison
from precsim.analysis.bisect import bisect_runs as bisect_runs
from precsim.analysis.bisect import find_divergence as find_divergence
from precsim.training.parallel.devices import Devices as Devices
from precsim.training.prepared import PreparedRun as PreparedRun
from precsim.training.prepared import prepare_run as prepare_run
from precsim.training.replay.bits import BitDifference as BitDifference
from precsim.training.replay.bits import BitLog as BitLog
from precsim.training.replay.bits import hash_state as hash_state
from precsim.training.replay.checkpoint import Checkpoint as Checkpoint
from precsim.training.replay.checkpoint import load_checkpoint as load_checkpoint
from precsim.training.replay.checkpoint import save_checkpoint as save_checkpoint
from precsim.training.replay.progress import Checkpoints as Checkpoints
from precsim.transform.portability import find_unportable as find_unportable

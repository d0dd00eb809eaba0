"""The policy of each step of a training: by schedules, and by what the steps before measured."""

"""Options of linear methods that `many.experiment` has no use for: only a training in an environment reads them."""

from __future__ import annotations

_TRAININGS = frozenset({"anneal", "clip_reward", "num_envs", "rollout_steps"})
_OF = {"td_lambda": {"epsilon", "epsilon_decay", "policy"}, "linear_ac": {"epsilon", "epsilon_decay"}}


def unused(method: str) -> frozenset[str]:
    """The names of the options of a linear method that would change nothing in an experiment.

    It has one environment at a time, constant step sizes, and rewards as they are; TD(lambda) follows the policy of
    its problem, and actor-critic that of its softmax.
    """
    return _TRAININGS | _OF.get(method, set())

"""What is worth trying in a tuning of the deep algorithms, by option; see `Config.searches`."""

from __future__ import annotations

from playfield.options import Search

GAMMAS = Search(choices=(0.9, 0.95, 0.98, 0.99, 0.995, 0.999))  # horizons of 10 to 1,000 steps
SWITCH = Search(choices=(True, False))

# Powers of two, so that every number of minibatches divides every rollout.
PPO = {
    "lr": Search(1e-5, 5e-3, log=True),
    "num_envs": Search(choices=(4, 8, 16, 32)),
    "rollout_steps": Search(choices=(32, 64, 128, 256, 512)),
    "epochs": Search(1, 15),
    "minibatches": Search(choices=(1, 2, 4, 8, 16)),
    "gamma": GAMMAS,
    "gae_lambda": Search(choices=(0.8, 0.9, 0.92, 0.95, 0.98, 1.0)),
    "clip": Search(choices=(0.1, 0.2, 0.3)),
    "ent_coef": Search(1e-5, 0.1, log=True),
    "vf_coef": Search(0.2, 1.0),
    "max_grad_norm": Search(choices=(0.3, 0.5, 1.0, 2.0, 5.0)),
    "anneal": SWITCH,
}

A2C = {
    "lr": Search(1e-5, 1e-2, log=True),
    "num_envs": Search(choices=(4, 8, 16, 32)),
    "rollout_steps": Search(choices=(5, 8, 16, 32, 64)),
    "gamma": GAMMAS,
    "gae_lambda": Search(choices=(0.8, 0.9, 0.95, 0.98, 1.0)),
    "ent_coef": Search(1e-5, 0.1, log=True),
    "vf_coef": Search(0.2, 1.0),
    "max_grad_norm": Search(choices=(0.3, 0.5, 1.0, 2.0, 5.0)),
    "norm_advantage": SWITCH,
    "optimizer": Search(choices=("rmsprop", "adam")),
    "anneal": SWITCH,
}

PQN = {
    "lr": Search(3e-5, 5e-3, log=True),
    "num_envs": Search(choices=(8, 16, 32, 64, 128)),
    "rollout_steps": Search(choices=(16, 32, 64, 128)),
    "epochs": Search(1, 6),
    "minibatches": Search(choices=(2, 4, 8, 16)),
    "gamma": GAMMAS,
    "q_lambda": Search(0.0, 0.98),
    "epsilon_share": Search(0.05, 0.6),
    "epsilon_end": Search(0.001, 0.1, log=True),
    "max_grad_norm": Search(choices=(0.5, 1.0, 5.0, 10.0)),
    "optimizer": Search(choices=("adam", "radam")),
    "anneal": SWITCH,
}

# Every period divides the rollouts of all presets; the largest minibatch of 5-step returns is full at 1,000 steps.
DQN = {
    "lr": Search(1e-5, 3e-3, log=True),
    "batch_size": Search(choices=(32, 64, 128)),
    "train_period": Search(choices=(1, 2, 4, 8, 16)),
    "target_period": Search(choices=(128, 512, 1_000, 2_000, 4_000, 8_000)),
    "learning_starts": Search(choices=(1_000, 2_000, 5_000, 10_000)),
    "n_step": Search(1, 5),
    "gamma": GAMMAS,
    "epsilon_end": Search(0.005, 0.1, log=True),
    "epsilon_share": Search(0.05, 0.5),
    "double": SWITCH,
    "anneal": SWITCH,
}

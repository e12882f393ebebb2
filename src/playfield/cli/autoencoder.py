"""`playfield autoencoder`: screens in a few numbers."""

from __future__ import annotations

import json
from pathlib import Path

from playfield.cli.parser import directory, kebab, make, real, say_line, seed, whole
from playfield.datasets import dataset
from playfield.errors import UsageError, unknown
from playfield.options import Option


def autoencoder(words: list[str]) -> int:
    """Train an auto-encoder on collected screens; its latents are features."""
    p = make(
        "autoencoder",
        autoencoder.__doc__ or "",
        "examples:\n"
        "  playfield collect breakout && playfield autoencoder datasets/breakout\n"
        "  playfield autoencoder datasets/breakout --variational true --out autoencoders/vae\n"
        "  playfield autoencoder datasets/breakout --loss plain --split frames --out autoencoders/lesson\n"
        "  playfield autoencoder datasets/breakout --resume     goes on with one that was stopped",
    )
    p.add_argument("data", metavar="DATASET", help="a directory made by playfield collect")
    p.add_argument("--latent", type=whole("--latent", 1, 4096), help="size of the latent vector (default 64)")
    p.add_argument(
        "--variational",
        type=Option("variational", "bool", False, "").parse,
        metavar="BOOL",
        help="train a variational auto-encoder (default false)",
    )
    p.add_argument("--kl-weight", type=real("--kl-weight", 0, 1e3), help="with --variational true (default 0.00003)")
    p.add_argument("--loss", help="weighted: rare pixels count more (default); plain: mean squared error")
    p.add_argument("--most", type=real("--most", 1, 1e6), help="maximum weight of a pixel (default 100)")
    p.add_argument("--split", help="episodes: hold out whole episodes (default); frames: single frames, which leaks")
    p.add_argument("--test", type=real("--test", 0.001, 0.999), help="fraction held out for testing (default 0.3)")
    p.add_argument("--split-seed", type=seed("--split-seed", 2**32 - 1), help="seed of the split (default 42)")
    p.add_argument("--epochs", type=whole("--epochs", 1, 10_000), help="epochs (default 8)")
    p.add_argument("--batch-size", type=whole("--batch-size", 1, 65_536), help="frames in a minibatch (default 64)")
    p.add_argument("--lr", type=real("--lr", 1e-8, 1), help="initial learning rate of Adam (default 0.002)")
    p.add_argument("--seed", type=seed("--seed"), help="seed of initial weights and shuffling (default 1)")
    p.add_argument(
        "--out", type=directory("--out"), metavar="DIR", help="a new directory (default autoencoders/NAME)"
    )
    p.add_argument("--resume", action="store_true", help="go on with the training in --out, exactly")
    p.add_argument("--quiet", action="store_true", help="only the result")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    others = ("data", "out", "resume", "quiet", "json", "debug")
    config = {k: v for k, v in vars(a).items() if k not in others and v is not None}
    if a.resume and config:
        given = [
            w.partition("=")[0] for w in map(kebab, words) if w[2:].partition("=")[0].replace("-", "_") in config
        ]
        raise UsageError(
            f"{', '.join(given) or 'an option'} is part of the training and cannot be given with --resume"
        )
    for name, known in (("loss", ("weighted", "plain")), ("split", ("episodes", "frames"))):
        if name in config and config[name] not in known:
            raise unknown(name, config[name], known)
    dataset.locate(a.data)
    if a.out is not None and not a.resume:
        dataset.refuse_existing(a.out)
    from playfield.datasets.train_autoencoder import Config, summary, train

    quiet = a.quiet or a.json
    out = a.out or Path("autoencoders") / Path(a.data).resolve().name
    report = train(a.data, Config(**config), out=out, resume=a.resume, say=None if quiet else say_line)
    if a.json:
        print(json.dumps(report))
    elif a.quiet:
        print(summary(report, out))
    return 0

"""The demo's settings, tried on development seeds: their validation digits only, test digits are never read.

    python recipes/digits.py                      # all settings, seed 10
    python recipes/digits.py --settings scattered --seeds 10 11 12 13 14

One JSON file for each setting and seed, in reports/digits.
"""
import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from romae_nb._demo_peers import peers
from romae_nb.demo import DIGITS, ENCODER, DECODER, Plan, ours, pretrain, readings, split_digits

SINCOS = dict(ENCODER, pos_encoding='sincos')
ROPE = dict(ENCODER, pos_encoding='rope')
ALL = dict(DECODER, decoder_attention='all')
SETTINGS = {                                                       # name -> what differs from the demo's plan
    'scattered': {},
    'scattered, 30% hidden': dict(mask_ratio=.3),
    'scattered, 75% hidden': dict(mask_ratio=.75),
    'scattered, places see each other': dict(decoder_kw=ALL),
    'scattered, 120 epochs': dict(pretrain_epochs=120),
    'pixels': dict(digits='pixels'),
    'pixels, sincos alone': dict(digits='pixels', encoder_kw=SINCOS, decoder_kw=ALL),
    'pixels, sincos alone, 35% hidden': dict(digits='pixels', encoder_kw=SINCOS, decoder_kw=ALL, mask_ratio=.35),
    'pixels, rotation alone': dict(digits='pixels', encoder_kw=ROPE, decoder_kw=ALL),
}


def try_out(name: str, seed: int, with_peers: bool) -> dict:
    "Validation accuracies of one setting on one seed."
    plan = replace(Plan(), **SETTINGS[name])
    ds = DIGITS[plan.digits](seed)
    split, begin = split_digits(ds.labels, seed, plan.labels_per_class), time.process_time()
    split.test = np.array([], dtype=int)                           # nobody reads them here
    learn = pretrain(ds, split, plan, seed)
    rows = ours(ds, split, plan, seed, learn)
    if with_peers: rows |= peers(*readings(ds), ds.labels.numpy(), split)
    loss = float(learn.recorder.values[-1][1])
    seconds = round(time.process_time() - begin)
    return dict(setting=name, seed=seed, plan=asdict(plan), validation_loss=loss, cpu_seconds=seconds,
                valid={k: c.valid for k, c in rows.items()}, chosen={k: c.settings for k, c in rows.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--settings', nargs='+', choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[10])
    parser.add_argument('--out', type=Path, default=Path('reports/digits'))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.settings:
            file = args.out / f'{name.replace(", ", "-").replace(" ", "_")}-{seed}.json'
            if file.exists(): continue
            result = try_out(name, seed, with_peers=name in ('scattered', 'pixels'))
            file.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
            print(name, seed, result['validation_loss'], result['valid'], flush=True)


if __name__ == '__main__': main()

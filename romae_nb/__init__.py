"Rotary masked autoencoders over timm, fastai and nbdev. Importing this registers the models: `timm.create_model('romae_tiny')`."
__version__ = "0.1.0"

from romae_nb import romae as _romae  # registers the models with timm; loads no fastai
from romae_nb import folders as _folders  # models of folders that this package wrote get their weights

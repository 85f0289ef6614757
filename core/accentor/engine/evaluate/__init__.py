"""Evidence: how natural accentuations are, where their maps point, and what they mean to another network."""

from accentor.engine.evaluate.adversarial import adversarial_at_distance, adversarial_at_value
from accentor.engine.evaluate.coherence import circuit_layers, coherence, coherence_of_natural, mean_coherence
from accentor.engine.evaluate.nearness import latent_distance, ssim
from accentor.engine.evaluate.statistics import Similarity
from accentor.engine.evaluate.values import activation_quantile, feature_values, most_exciting, values_over
from accentor.engine.evaluate.what import Transfer, log_probabilities, transfer
from accentor.engine.evaluate.where import Where, auroc, pointing_game, where

__all__ = [
    "Similarity",
    "Transfer",
    "Where",
    "activation_quantile",
    "adversarial_at_distance",
    "adversarial_at_value",
    "auroc",
    "circuit_layers",
    "coherence",
    "coherence_of_natural",
    "feature_values",
    "latent_distance",
    "log_probabilities",
    "mean_coherence",
    "most_exciting",
    "pointing_game",
    "ssim",
    "transfer",
    "values_over",
    "where",
]

"""Feature dictionaries: named sets of features of one layer, from its channels, from files, or fitted."""

from accentor.engine.dictionaries.dictionary import Dictionary, Features
from accentor.engine.dictionaries.fit import fit_dictionary
from accentor.engine.dictionaries.kinds import ChannelDictionary, DirectionDictionary, EncoderDictionary, channels_of
from accentor.engine.dictionaries.load import (
    forget_dictionary,
    load_dictionary,
    register_dictionary,
    registered_dictionaries,
)
from accentor.engine.dictionaries.overcomplete import from_overcomplete
from accentor.engine.dictionaries.report import Report

__all__ = [
    "ChannelDictionary",
    "Dictionary",
    "DirectionDictionary",
    "EncoderDictionary",
    "Features",
    "Report",
    "channels_of",
    "fit_dictionary",
    "forget_dictionary",
    "from_overcomplete",
    "load_dictionary",
    "register_dictionary",
    "registered_dictionaries",
]

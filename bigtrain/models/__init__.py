"""The network families, one file each; a new one is a new file and one name in each list below.

Other packages add theirs by entry points of the group `bigtrain.networks`.
"""

from bigtrain.models.adain import AdaINConfig
from bigtrain.models.base import (
    DISCRIMINATORS,
    GENERATORS,
    ArraySpec,
    BaseDiscriminatorConfig,
    BaseGeneratorConfig,
    DataSpec,
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    ImageSpec,
    NetworkConfig,
    StyleGenerator,
)
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.biggan_deep import BigGANDeepDiscriminatorConfig, BigGANDeepGeneratorConfig
from bigtrain.models.cgan import CGANDiscriminatorConfig, CGANGeneratorConfig
from bigtrain.models.dcgan import DCGANDiscriminatorConfig, DCGANGeneratorConfig
from bigtrain.models.dvdgan import DVDGANDiscriminatorConfig, DVDGANGeneratorConfig
from bigtrain.models.dvdgan_fp import DVDGANFPConfig, DVDGANFPDiscriminatorConfig
from bigtrain.models.edge_inpainter import EdgeInpainterConfig
from bigtrain.models.eg3d import EG3DGeneratorConfig
from bigtrain.models.gan3d import GAN3DDiscriminatorConfig, GAN3DGeneratorConfig
from bigtrain.models.gated_inpainter import GatedInpainterConfig
from bigtrain.models.hifigan import HiFiGANConfig, HiFiGANDiscriminatorConfig
from bigtrain.models.lab_colouriser import LabColouriserConfig
from bigtrain.models.label_map import LabelMapDiscriminatorConfig, LabelMapTranslatorConfig
from bigtrain.models.minibatch_discrimination import MinibatchDiscriminatorConfig
from bigtrain.models.mlp import MLPDiscriminatorConfig, MLPGeneratorConfig
from bigtrain.models.mocogan import MoCoGANDiscriminatorConfig, MoCoGANGeneratorConfig
from bigtrain.models.multi_scale import MultiScaleDiscriminatorConfig
from bigtrain.models.multi_scale_patch import MultiScalePatchDiscriminatorConfig
from bigtrain.models.patch import PatchDiscriminatorConfig, PixelDiscriminatorConfig
from bigtrain.models.pix2pix_unet import Pix2PixUNetConfig
from bigtrain.models.progan import ProGANDiscriminatorConfig, ProGANGeneratorConfig
from bigtrain.models.r3gan import R3GANDiscriminatorConfig, R3GANGeneratorConfig
from bigtrain.models.resnet_translator import ResNetTranslatorConfig
from bigtrain.models.rgan import RGANDiscriminatorConfig, RGANGeneratorConfig
from bigtrain.models.sagan import SAGANDiscriminatorConfig, SAGANGeneratorConfig
from bigtrain.models.sngan import SNGANDiscriminatorConfig, SNGANGeneratorConfig
from bigtrain.models.spade import SPADEConfig
from bigtrain.models.stylegan1 import StyleGAN1DiscriminatorConfig, StyleGAN1GeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.models.stylegan3 import StyleGAN3GeneratorConfig
from bigtrain.models.styliser import STYLISERS, BaseStyliserConfig, Styliser, StyliserConfig
from bigtrain.models.superresolution import (
    RRDBConfig,
    SRResNetConfig,
    UNetDiscriminatorConfig,
    VGGDiscriminatorConfig,
)
from bigtrain.models.tgan import TGANDiscriminatorConfig, TGANGeneratorConfig
from bigtrain.models.translator import (
    PATCH_DISCRIMINATORS,
    TRANSLATORS,
    BasePatchDiscriminatorConfig,
    BaseTranslatorConfig,
    BaseTwoStageConfig,
    PatchDiscriminator,
    TranslationDiscriminatorConfig,
    Translator,
    TranslatorConfig,
    TwoStageTranslator,
)
from bigtrain.models.vit import ViTDiscriminatorConfig, ViTGeneratorConfig
from bigtrain.models.wavegan import WaveGANDiscriminatorConfig, WaveGANGeneratorConfig
from bigtrain.models.wgan import WGANDiscriminatorConfig

GENERATORS.add_classes(
    BigGANGeneratorConfig,
    BigGANDeepGeneratorConfig,
    CGANGeneratorConfig,
    DCGANGeneratorConfig,
    DVDGANGeneratorConfig,
    EG3DGeneratorConfig,
    GAN3DGeneratorConfig,
    MLPGeneratorConfig,
    MoCoGANGeneratorConfig,
    ProGANGeneratorConfig,
    R3GANGeneratorConfig,
    RGANGeneratorConfig,
    SAGANGeneratorConfig,
    SNGANGeneratorConfig,
    StyleGAN1GeneratorConfig,
    StyleGAN2GeneratorConfig,
    StyleGAN3GeneratorConfig,
    TGANGeneratorConfig,
    ViTGeneratorConfig,
    WaveGANGeneratorConfig,
)
DISCRIMINATORS.add_classes(
    BigGANDeepDiscriminatorConfig,
    BigGANDiscriminatorConfig,
    CGANDiscriminatorConfig,
    DCGANDiscriminatorConfig,
    DVDGANDiscriminatorConfig,
    GAN3DDiscriminatorConfig,
    MinibatchDiscriminatorConfig,
    MLPDiscriminatorConfig,
    MoCoGANDiscriminatorConfig,
    ProGANDiscriminatorConfig,
    MultiScaleDiscriminatorConfig,
    R3GANDiscriminatorConfig,
    RGANDiscriminatorConfig,
    SAGANDiscriminatorConfig,
    SNGANDiscriminatorConfig,
    StyleGAN1DiscriminatorConfig,
    StyleGAN2DiscriminatorConfig,
    TGANDiscriminatorConfig,
    ViTDiscriminatorConfig,
    WGANDiscriminatorConfig,
    WaveGANDiscriminatorConfig,
)
TRANSLATORS.add_classes(
    DVDGANFPConfig,
    EdgeInpainterConfig,
    GatedInpainterConfig,
    HiFiGANConfig,
    LabColouriserConfig,
    LabelMapTranslatorConfig,
    Pix2PixUNetConfig,
    ResNetTranslatorConfig,
    RRDBConfig,
    SPADEConfig,
    SRResNetConfig,
)
STYLISERS.add_classes(AdaINConfig)
PATCH_DISCRIMINATORS.add_classes(
    DVDGANFPDiscriminatorConfig,
    HiFiGANDiscriminatorConfig,
    LabelMapDiscriminatorConfig,
    MultiScalePatchDiscriminatorConfig,
    PatchDiscriminatorConfig,
    PixelDiscriminatorConfig,
    UNetDiscriminatorConfig,
    VGGDiscriminatorConfig,
)

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "PATCH_DISCRIMINATORS",
    "STYLISERS",
    "TRANSLATORS",
    "ArraySpec",
    "BaseDiscriminatorConfig",
    "BaseGeneratorConfig",
    "BasePatchDiscriminatorConfig",
    "BaseStyliserConfig",
    "BaseTranslatorConfig",
    "BaseTwoStageConfig",
    "DataSpec",
    "Discriminator",
    "DiscriminatorConfig",
    "EG3DGeneratorConfig",
    "Generator",
    "GeneratorConfig",
    "ImageSpec",
    "NetworkConfig",
    "PatchDiscriminator",
    "StyleGenerator",
    "Styliser",
    "StyliserConfig",
    "TranslationDiscriminatorConfig",
    "Translator",
    "TranslatorConfig",
    "TwoStageTranslator",
]

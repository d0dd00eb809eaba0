"""The public models that `benchmarks.models` tries, each from its own package, made small."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import KEY, Program, equinox, haiku, linen, model, nnx, numbers, tokens


@model("PaLM", "palm-jax")
def palm() -> Program:
    """Return `PaLM` of `palm-jax`."""
    from palm_jax.palm_lite import PaLM

    module = PaLM(num_tokens=32, dim=16, dim_head=8, depth=2, heads=2, key=KEY, max_seq_len=8)
    return equinox(module, tokens(8))


@model("gMLP language model", "mlp-gpt-jax")
def mlp_gpt() -> Program:
    """Return `gMLP language model` of `mlp-gpt-jax`."""
    from mlp_gpt_jax.mlp_gpt_jax import MLPGpt

    def fun(x: Any) -> Any:
        return MLPGpt(num_tokens=32, dim=16, depth=2, seq_len=8)(x)

    return haiku(fun, tokens(8))


@model("transformer decoder (attnax)", "attnax")
def attnax() -> Program:
    """Return `transformer decoder (attnax)` of `attnax`."""
    from attnax.config import TransformerConfig
    from attnax.transformer import TransformerDecoder
    from flax.nnx import Rngs

    config = TransformerConfig(
        vocab_size=32, d_model=16, num_heads=2, num_layers=2, d_ff=32, max_len=8, dropout_rate=0.0
    )
    return nnx(TransformerDecoder(Rngs(0), config), tokens(1, 8))


@model("Mamba-2", "mamba2-jax")
def mamba2() -> Program:
    """Return `Mamba-2` of `mamba2-jax`."""
    from flax.nnx import Rngs
    from mamba2_jax.modeling import Mamba2Config, Mamba2Model

    config = Mamba2Config(
        vocab_size=32, hidden_size=16, state_size=8, head_dim=8, chunk_size=4, num_hidden_layers=2
    )
    program, args = nnx(Mamba2Model(config, rngs=Rngs(0)), tokens(1, 8))
    return lambda *args: jax.tree.leaves(program(*args))[0], args


@model("Kolmogorov-Arnold network", "jaxkan")
def kan() -> Program:
    """Return `Kolmogorov-Arnold network` of `jaxkan`."""
    from jaxkan.models.KAN import KAN

    return nnx(KAN([2, 4, 1], "base", {"k": 3, "G": 3}, seed=0), numbers(5, 2))


@model("Fourier neural operator", "pdequinox")
def fno() -> Program:
    """Return `Fourier neural operator` of `pdequinox`."""
    from pdequinox.arch import ClassicFNO

    module = ClassicFNO(1, 1, 1, hidden_channels=4, num_modes=3, num_blocks=2, key=KEY)
    return equinox(module, numbers(1, 16))


@model("U-Net", "pdequinox")
def unet() -> Program:
    """Return `U-Net` of `pdequinox`."""
    from pdequinox.arch import ClassicUNet

    return equinox(ClassicUNet(1, 1, 1, hidden_channels=4, num_levels=2, key=KEY), numbers(1, 16))


@model("masked autoregressive flow", "flowjax")
def flow() -> Program:
    """Return `masked autoregressive flow` of `flowjax`."""
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow

    base = Normal(jnp.zeros(2))
    flow = masked_autoregressive_flow(KEY, base_dist=base, flow_layers=2, nn_width=8)
    return equinox(flow.log_prob, numbers(5, 2))


@model("spline coupling flow", "flowjax")
def coupling() -> Program:
    """Return `spline coupling flow` of `flowjax`."""
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow

    spline = RationalQuadraticSpline(knots=4, interval=3)
    options: dict[str, Any] = {"flow_layers": 2, "nn_width": 8, "transformer": spline}
    flow = coupling_flow(KEY, base_dist=Normal(jnp.zeros(2)), **options)
    return equinox(flow.log_prob, numbers(5, 2))


@model("graph convolution", "jraph")
def graph() -> Program:
    """Return `graph convolution` of `jraph`."""
    import jraph

    senders, receivers = jnp.array([0, 1, 2, 3]), jnp.array([1, 2, 3, 0])

    def fun(weights: Any, nodes: Any) -> Any:
        layer = jraph.GraphConvolution(lambda n: jax.nn.relu(n @ weights), add_self_edges=True)
        graph = jraph.GraphsTuple(
            nodes=nodes,
            edges=None,
            senders=senders,
            receivers=receivers,
            globals=None,
            n_node=jnp.array([4]),
            n_edge=jnp.array([4]),
        )
        return layer(graph).nodes

    return fun, (numbers(3, 5), numbers(4, 3))


@model("equivariant tensor product", "e3nn-jax")
def e3nn() -> Program:
    """Return `equivariant tensor product` of `e3nn-jax`."""
    import e3nn_jax

    def fun(weights: Any, x: Any) -> Any:
        harmonics = e3nn_jax.spherical_harmonics("0e + 1o + 2e", x, True)
        return e3nn_jax.tensor_product(harmonics, harmonics).array * weights

    return fun, (numbers(1), numbers(4, 3))


@model("ResNet-18 (flaxmodels)", "flaxmodels")
def resnet() -> Program:
    """Return `ResNet-18 (flaxmodels)` of `flaxmodels`."""
    from flaxmodels import ResNet18

    module = ResNet18(output="logits", pretrained=None, num_classes=5, normalize=False)
    return linen(module, numbers(1, 32, 32, 3), train=False)


@model("Mamba (jaxonmodels)", "jaxonmodels")
def mamba() -> Program:
    """Return `Mamba (jaxonmodels)` of `jaxonmodels`."""
    from jaxonmodels.models.mamba import Mamba

    return equinox(Mamba(n_embd=16, n_dims=32, n_layers=2, key=KEY), tokens(8))


@model("vision transformer (equimo)", "equimo")
def equimo() -> Program:
    """Return `vision transformer (equimo)` of `equimo`."""
    from equimo.models.vit import VisionTransformer

    module = VisionTransformer(
        img_size=16,
        in_channels=3,
        dim=16,
        patch_size=8,
        num_heads=[2],
        depths=[2],
        num_classes=5,
        key=KEY,
    )
    return equinox(module, numbers(3, 16, 16), key=KEY, inference=True)


@model("MobileNet (dm-haiku)", "dm-haiku")
def haiku_resnet() -> Program:
    """Return `MobileNet (dm-haiku)` of `dm-haiku`."""
    import haiku as hk

    def fun(x: Any) -> Any:
        return hk.nets.MobileNetV1(num_classes=5, use_bn=False)(x, is_training=True)

    return haiku(fun, numbers(1, 32, 32, 3))


@model("normalising flow (distrax)", "distrax")
def distrax() -> Program:
    """Return `normalising flow (distrax)` of `distrax`."""
    import distrax

    def fun(scale: Any, x: Any) -> Any:
        base = distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
        bijector = distrax.Block(distrax.ScalarAffine(shift=scale[0], scale=scale[1]), 1)
        return distrax.Transformed(
            base, distrax.Chain([bijector, distrax.Block(distrax.Tanh(), 1)])
        ).log_prob(x)

    return fun, (numbers(2), numbers(5, 2) / 9)


@model("Gaussian process", "tinygp")
def gaussian_process() -> Program:
    """Return `Gaussian process` of `tinygp`."""
    import tinygp

    def fun(scale: Any, x: Any) -> Any:
        kernel = scale[0] * tinygp.kernels.ExpSquared(scale[1])
        return tinygp.GaussianProcess(kernel, x, diag=0.1).log_probability(jnp.sin(x))

    return fun, (jnp.ones(2), numbers(6))


@model("linear recurrent unit", "rnn-jax")
def linear_recurrent_unit() -> Program:
    """Return `linear recurrent unit` of `rnn-jax`."""
    from rnn_jax.ssm.lru import LinearRecurrentUnit

    return equinox(LinearRecurrentUnit(4, 8, 8, key=KEY), numbers(6, 4))


def keras(layers: Any, x: Any) -> Program:
    """Return layers of Keras in a row as a function of their variables."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    from keras import Sequential

    module = Sequential(layers())
    module(x)
    trained, others = (
        [variable.value for variable in variables]
        for variables in (module.trainable_variables, module.non_trainable_variables)
    )
    return lambda weights, x: module.stateless_call(weights, others, x)[0], (trained, x)


@model("convolutions (Keras)", "keras")
def keras_convolutions() -> Program:
    """Return `convolutions (Keras)` of `keras`."""

    def layers() -> Any:
        from keras import layers as kinds

        return [
            kinds.Conv2D(4, 3, padding="same"),
            kinds.BatchNormalization(),
            kinds.Activation("gelu"),
            kinds.DepthwiseConv2D(3),
            kinds.MaxPool2D(),
            kinds.SeparableConv2D(5, 3),
            kinds.Conv2DTranspose(3, 3, strides=2),
            kinds.GroupNormalization(3),
            kinds.GlobalAveragePooling2D(),
            kinds.Dense(3, activation="softmax"),
        ]

    return keras(layers, numbers(2, 12, 12, 3))


@model("LSTM and GRU (Keras)", "keras")
def keras_recurrent() -> Program:
    """Return `LSTM and GRU (Keras)` of `keras`."""

    def layers() -> Any:
        from keras import layers as kinds

        recurrent = kinds.Bidirectional(kinds.LSTM(4, return_sequences=True))
        return [kinds.Embedding(32, 6), recurrent, kinds.GRU(4)]

    return keras(layers, tokens(2, 6))


@model("Gemma-like transformer (penzai)", "penzai")
def penzai() -> Program:
    """Return `Gemma-like transformer (penzai)` of `penzai`."""
    from penzai import pz
    from penzai.models.transformer.variants import llamalike_common

    config = llamalike_common.LlamalikeTransformerConfig(
        num_kv_heads=1,
        query_head_multiplier=2,
        embedding_dim=16,
        projection_dim=8,
        mlp_hidden_dim=32,
        num_decoder_blocks=2,
        vocab_size=32,
        mlp_variant="geglu_approx",
        tie_embedder_and_logits=True,
        rope_wavelength=10000,
        rms_norm_eps=1e-6,
    )
    module = llamalike_common.build_llamalike_transformer(config, init_base_rng=KEY)
    module, variables = pz.unbind_params(module, freeze=True)
    places = pz.nx.wrap(jnp.arange(8)).tag("seq")

    def fun(variables: Any, x: Any) -> Any:
        sequence = pz.nx.wrap(x).tag("batch", "seq")
        found = pz.bind_variables(module, variables)(sequence, token_positions=places)
        return found.unwrap("batch", "seq", "vocabulary")

    return fun, (variables, tokens(1, 8))


@model("autoregressive network of spins", "netket")
def spins() -> Program:
    """Return `autoregressive network of spins` of `netket`, which turns on 64 bits."""
    import netket

    space, kind = netket.hilbert.Spin(0.5, 6), jnp.float32
    options: dict[str, Any] = {"layers": 2, "features": 4, "kernel_size": 2, "param_dtype": kind}
    return linen(netket.models.ARNNConv1D(hilbert=space, **options), jnp.sign(numbers(4, 6)))


@model("gradient of attention (tokamax)", "tokamax")
def attention() -> Program:
    """Return `gradient of attention (tokamax)` of `tokamax`, and of a gated linear unit."""
    import tokamax

    def loss(weights: Any, x: Any) -> Any:
        gated = tokamax.gated_linear_unit(x, weights, activation=jax.nn.swish, implementation="xla")
        heads = gated[None, :, None].repeat(2, 2)
        options: dict[str, Any] = {"is_causal": True, "implementation": "xla_chunked"}
        return jnp.sum(tokamax.dot_product_attention(heads, heads, heads, **options) ** 2)

    return jax.grad(loss), (numbers(4, 2, 8), numbers(6, 4))

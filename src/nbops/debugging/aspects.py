"""What a rule sees of a step beside its layers: batch, optimizer, model, evaluation, metrics, time, ranks. No torch.

Every record is plain numbers; None means not measured or not visible. All are fields of a `StepView`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TensorStats:
    """One tensor of a batch, all values of it (or 65,536 evenly spaced ones of a larger one).

    sizes, dtype : shape, and the type without ``torch.``
    mean, std, min, max : over the finite values; None when there is none
    nan_count, inf_count : how many of the values looked at are NaN, and infinite
    zero_share, top_share : share (0 to 1) of zeros; of the commonest value (integers only: padding, commonest class)
    distinct : number of different values (integers only, None above 4,096)
    """

    sizes: tuple[int, ...]
    dtype: str
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    nan_count: int = 0
    inf_count: int = 0
    zero_share: float | None = None
    top_share: float | None = None
    distinct: int | None = None

    @property
    def is_integer(self) -> bool:
        """Whether it holds whole numbers: labels, tokens, masks."""
        return "int" in self.dtype or self.dtype == "bool"


@dataclass(frozen=True, slots=True)
class BatchView:
    """The last batch of a sampled step. Targets and predictions are those of the loss function that was called last.

    inputs : first tensor argument of the model's call
    targets, predictions : second and first argument of the loss function; None when a loss is written by hand
    loss_name, loss_value : ``cross_entropy``, ``mse_loss`` …, "" when none was seen; and what it gave, if one number
    classes : size of the class axis of the predictions (classification losses only)
    ignore_index, ignored_share : the label that is left out, and the share of targets that equal it
    predicted_top_share : share of samples whose prediction is the commonest class
    entropy : mean entropy of the predicted distribution over its greatest possible value, 0 to 1
    accuracy : share of targets that are predicted right (ignored ones left out)
    is_output_constant : whether the predictions of all samples are equal (two samples or more)
    is_softmaxed : whether the predictions given to a loss that takes logits are already probabilities that sum to 1
    rows : samples that were hashed (at most 256 of the inputs)
    duplicate_share : share of them that are equal to another sample of the batch
    repeated_share : share of them that were seen in one of the last 16 hashed training batches
    label_imbalance, rare_weight : how many times as often the commonest label of the batch comes as the rarest, and the
        rarest's class weight in the loss over the commonest's; None without class weights
    target_sums : smallest and largest sum over the classes of targets that are given as probabilities
    is_target_bootstrapped : whether the target is a constant plus a multiple of a model's output, and part of the graph
    label_column, label_correlation : column of two-dimensional inputs that goes with a target of one number or two
        classes most, and how much (0 to 1)
    distinct_batches : how many different batches the last five hashed ones were
    """

    inputs: TensorStats | None = None
    targets: TensorStats | None = None
    predictions: TensorStats | None = None
    loss_name: str = ""
    loss_value: float | None = None
    classes: int | None = None
    ignore_index: int | None = None
    ignored_share: float | None = None
    predicted_top_share: float | None = None
    entropy: float | None = None
    accuracy: float | None = None
    is_output_constant: bool | None = None
    is_softmaxed: bool | None = None
    rows: int = 0
    duplicate_share: float | None = None
    repeated_share: float | None = None
    distinct_batches: int = 0
    label_imbalance: float | None = None
    rare_weight: float | None = None
    target_sums: tuple[float, float] | None = None
    is_target_bootstrapped: bool = False
    label_column: int | None = None
    label_correlation: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Scale of some batches of inputs of one shape: mean and standard deviation, and by how much the means differ.

    batches : how many there are
    sizes : shape of one sample
    """

    batches: int
    sizes: tuple[int, ...]
    mean: float
    std: float
    spread: float


@dataclass(frozen=True, slots=True)
class OptimizerView:
    """The optimizer that steps.

    kind : its class
    settings : hyper-parameters of its first group that are numbers, flags or pairs of numbers (``lr``, ``momentum``,
        ``weight_decay``, ``betas`` …)
    lrs : learning rate of each group
    held, foreign : how many of its parameters belong to the model, and how many do not
    trainable_share : share of the model's trainable values that it holds
    skipped, skipped_in_a_row : steps that a gradient scaler skipped so far, and just before this one
    scale : factor of the loss that the gradient scaler uses; None without one
    made : how many optimizers have held these parameters so far, this one included
    twice : layers whose parameters it holds twice, by name or by memory
    steps_of_all : steps of all optimizers so far
    rival : class of another optimizer that holds all of the model's trainable values too, and steps in turn with this
    has_graph : whether the gradients themselves have a graph
    """

    kind: str
    settings: dict[str, float | bool | tuple[float, ...]] = field(default_factory=dict)
    lrs: tuple[float, ...] = ()
    held: int = 0
    foreign: int = 0
    trainable_share: float | None = None
    skipped: int = 0
    skipped_in_a_row: int = 0
    scale: float | None = None
    made: int = 1
    twice: tuple[str, ...] = ()
    steps_of_all: int = 0
    rival: str = ""
    has_graph: bool = False


@dataclass(frozen=True, slots=True)
class ModelView:
    """The model as it stands at the step.

    is_training : mode of the model at its last forward pass with gradients; None before it
    switched : names of submodules that were in the other mode then (a frozen normalisation in evaluation mode)
    has_dropout, has_batchnorm : whether a module depends on the mode: at random, or by running statistics
    trainable_share : share of its values that require a gradient
    tied : groups of names of one and the same parameter
    untied : pairs that were one parameter, or equal in layers of different kinds, when the watch began, and are
        different now
    frozen_changed : names of parameters without ``requires_grad`` whose values changed since the last sampled step
    drifted : names of normalisations with frozen weights in training mode, and how far their running statistics went
        since the watch began, in their deviations; largest first
    """

    is_training: bool | None = None
    switched: tuple[str, ...] = ()
    has_dropout: bool = False
    has_batchnorm: bool = False
    trainable_share: float = 1.0
    tied: tuple[tuple[str, ...], ...] = ()
    untied: tuple[tuple[str, str], ...] = ()
    frozen_changed: tuple[str, ...] = ()
    drifted: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """The evaluation (forward passes without gradients) since the last step, or the last one before it.

    batches : forward passes of it
    phases, steps : evaluations begun so far, and optimizer steps so far: near 1 to 1 means that passes without
        gradients are a part of the training (a generator's samples), rather than evaluations
    is_training_mode : whether the model itself was in training mode
    active : kinds of modules that behaved as in training: ``Dropout``, ``BatchNorm2d`` …
    losses, loss : loss functions called without gradients on it, and their mean value
    best_loss, train_loss : smallest mean loss of the evaluations before, and median loss of the last 20 steps
    rows, leaked_share : samples that were hashed, and the share of them that were also trained on
    mixed_share : share of the hashed samples that were in batches of which a part was trained on, and a part not
    is_training_set_known : whether the last training batches held no sample that had not been seen before
    dropout : whether dropout functions were applied in that second pass, although the model was in evaluation mode
    kept_graphs : outputs of this evaluation that were computed with a graph which is still alive
    inputs, trained : mean, standard deviation and spread of the means of the batches: of its first inputs, and of the
        inputs of the measured training steps
    difference : largest difference between two passes of the same batch over the rms of the output; 0 when they are
        equal, None where that was not tried (once per watch, in evaluation mode, where it is cheap)
    """

    batches: int = 0
    phases: int = 0
    steps: int = 0
    is_training_mode: bool = False
    active: tuple[str, ...] = ()
    losses: int = 0
    loss: float | None = None
    rows: int = 0
    leaked_share: float | None = None
    difference: float | None = None
    dropout: bool = False
    best_loss: float | None = None
    train_loss: float | None = None
    is_training_set_known: bool = False
    mixed_share: float = 0.0
    kept_graphs: int = 0
    inputs: Spread | None = None
    trained: Spread | None = None


@dataclass(frozen=True, slots=True)
class MetricView:
    """One metric that the user logged with ``nb.log`` while the watch was open.

    count, first, last, min, max : over the values logged so far
    falls : how often a value was smaller than the one before it
    """

    name: str
    count: int
    first: float
    last: float
    min: float
    max: float
    falls: int = 0


@dataclass(frozen=True, slots=True)
class TimingView:
    """Where the time of a step goes: medians over the last 100 steps, milliseconds, without the watch's own time.

    step_ms : from the end of a step to the end of the next one
    data_ms : waiting for the data loader; without one, from the end of a step to the next forward pass
    forward_ms, backward_ms, optimizer_ms : the model's passes, the backward passes, the optimizer's step
    other_ms : what is left: the loss, clipping, logging, moving data
    steps : how many steps these medians rest on
    outlier_share : share of them longer than three times the median
    own_share : what the watch itself added, share of the time
    loader_workers, batch_size, loader_batches : of the data loader that was seen; None without one
    is_stream, shared_random : whether its data set is a stream; its random generator that workers copy
    budget_ms, over : the budget that was given for a step, and the part that takes most while it is exceeded (``data``,
        ``forward``, ``backward``, ``optimizer``, ``other``); "" while it is kept
    busy_cores, cores : CPU cores that this process kept busy in the mean, and how many there are
    gpu_share : load of the GPU, 0 to 1; None without one
    memory_bytes, memory_growth_bytes : resident memory now, and its growth since the 20th step
    device_bytes, device_growth_bytes : the same of what torch has allocated on the GPU
    kept_graphs : losses of the last 32 steps whose graphs are still alive: more than 2 means that somebody keeps them
    """

    step_ms: float = 0.0
    data_ms: float = 0.0
    forward_ms: float = 0.0
    backward_ms: float = 0.0
    optimizer_ms: float = 0.0
    other_ms: float = 0.0
    steps: int = 0
    outlier_share: float = 0.0
    own_share: float = 0.0
    loader_workers: int | None = None
    batch_size: int | None = None
    loader_batches: int | None = None
    is_stream: bool = False
    shared_random: str = ""
    budget_ms: float | None = None
    over: str = ""
    busy_cores: float | None = None
    cores: int = 1
    gpu_share: float | None = None
    memory_bytes: int | None = None
    memory_growth_bytes: int | None = None
    device_bytes: int | None = None
    device_growth_bytes: int | None = None
    kept_graphs: int = 0

    @property
    def parts(self) -> dict[str, float]:
        """Milliseconds of each part, by its name."""
        names = ("data", "forward", "backward", "optimizer", "other")
        return {name: getattr(self, f"{name}_ms") for name in names}


@dataclass(frozen=True, slots=True)
class RankView:
    """Parameters compared across the processes of ``torch.distributed``.

    ranks : processes that watch and were compared
    step : the step after which they were compared
    differing : names of parameters that are not the same in all of them
    """

    ranks: int
    step: int
    differing: tuple[str, ...] = ()

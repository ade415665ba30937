"""What may have caused a finding: one entry per cause, with the test that tells it from the others, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

from nbops.core.records import Cause


@dataclass(frozen=True)
class Known:
    """A cause: what is the matter, how to make sure, what to do."""

    text: str
    test: str
    fix: str


CAUSES: dict[str, Known] = {
    # ---- the loop ----
    "grads-not-cleared": Known(
        "zero_grad() is not called between two steps", "print(p.grad.norm()) grows from step to step",
        "Call optimizer.zero_grad() in each step, before loss.backward()."),
    "grads-cleared-before-step": Known(
        "gradients are cleared between the backward pass and the step", "print(p.grad) just before optimizer.step()",
        "Call optimizer.zero_grad() before loss.backward(), not after it."),
    "backward-missing": Known(
        "loss.backward() is not called", "look for .backward() in the loop", "Call loss.backward() before the step."),
    "step-missing": Known(
        "optimizer.step() is not called", "look for .step() of the optimizer, not only of the scheduler",
        "Call optimizer.step() after loss.backward()."),
    "step-outside-loop": Known(
        "optimizer.step() stands outside of the loop over batches", "count the steps of an epoch",
        "Indent optimizer.step() so that it runs once per batch."),
    "graph-cut": Known(
        "detach(), item(), .data, NumPy, no_grad or a new tensor cuts the graph between the parameters and the loss",
        "loss.grad_fn is None, or the output's grad_fn ends early",
        "Compute the loss from the model's output with torch operations only."),
    "nothing-requires-grad": Known(
        "nothing on the way to the loss requires a gradient: no_grad, detach, or frozen parameters",
        "print(loss.requires_grad)", "Run the forward pass of training outside of torch.no_grad()."),
    "inplace-breaks-backward": Known(
        "a value that the backward pass needs was overwritten in place", "torch.autograd.set_detect_anomaly(True)",
        "Write x = x + y instead of x += y, and no inplace=True there."),
    "nondifferentiable-op": Known(
        "rounding, sign, argmax or a comparison has a gradient of zero", "the gradient behind it is exactly 0",
        "Use a straight-through estimator: x + (x.round() - x).detach()."),
    "optimizer-of-other-parameters": Known(
        "the optimizer holds the parameters of another model object", "compare the ids of its parameters",
        "Build the optimizer from model.parameters() after the model, or after it was loaded."),
    "parameters-not-in-optimizer": Known(
        "some parameters were not given to the optimizer", "compare the counts of parameters",
        "Give the optimizer all parameters that are to learn, after the last change of the model."),
    "parameter-twice-in-optimizer": Known(
        "a parameter, or its memory, is in the optimizer twice", "len(set(map(id, params))) and data_ptr()",
        "List each parameter once; share a weight by assigning the Parameter itself."),
    "optimizer-rebuilt-in-loop": Known(
        "the optimizer is built inside the loop, and loses its state", "look at the line that builds it",
        "Build the optimizer once, before the loop."),
    "same-batch-always": Known(
        "every step sees the same batch", "print the first row of the inputs at each step",
        "Iterate over the loader; do not call next(iter(loader)) or set the seed inside the loop."),
    "graph-kept": Known(
        "losses or outputs are kept with their graphs", "len(gc.get_objects()) grows from step to step",
        "Keep loss.item() or loss.detach(), not the tensor; no create_graph without need."),
    "accumulation-not-scaled": Known(
        "gradients of several batches are summed, not averaged, before a step", "count the backward passes per step",
        "Divide the loss by the number of batches: (loss / n).backward()."),
    "metric-wrong-axis": Known(
        "the metric is computed along the wrong axis", "print the shapes of predictions and labels",
        "Use argmax(1) for scores of the shape (batch, classes)."),
    "eval-preprocessing-differs": Known(
        "inputs of the evaluation are prepared otherwise than those of the training", "compare mean and spread of both",
        "Use the same transform, with the training set's numbers, for both."),
    "clip-too-small": Known(
        "gradients are clipped to a very small norm", "print what clip_grad_norm_ returns",
        "Clip at a norm near what is usual for the model, such as 1."),
    "scaler-misused": Known(
        "the gradient scaler is not used in the order scale, backward, unscale_, clip, step, update",
        "look at the gradients' norm before the step", "Call scaler.unscale_(optimizer) before clipping, then "
        "scaler.step(optimizer) and scaler.update()."),
    "clip-at-wrong-place": Known(
        "gradients are clipped before there are any, or after they were used", "look at the order of the lines",
        "Clip after loss.backward() and before optimizer.step()."),
    "model-rebuilt-in-loop": Known(
        "the model is built inside the loop, and forgets", "look at the line that builds it",
        "Build the model once, before the loop."),
    "layer-made-in-forward": Known(
        "a layer is made in forward(), anew in each pass", "model.parameters() does not hold its weights",
        "Make the layer in __init__ and call it in forward."),
    "model-kept-over-folds": Known(
        "one model goes through all folds of a cross-validation", "the scores rise from fold to fold",
        "Make the model and its optimizer at the beginning of each fold."),
    # ---- learning rate, initialisation ----
    "lr-too-high": Known(
        "the learning rate is too high", "a rate ten times smaller lets the loss fall",
        "Divide the learning rate by 10."),
    "lr-too-low": Known(
        "the learning rate is too low", "a rate ten times higher lets the loss fall faster",
        "Multiply the learning rate by 10 or more."),
    "momentum-too-high": Known(
        "momentum is so high that the steps overshoot", "with momentum 0.9 the swings go away", "Set momentum to 0.9."),
    "eps-wrong": Known(
        "eps of the optimizer is 0, or far too large", "print optimizer.param_groups[0]['eps']", "Set eps to 1e-8."),
    "weight-decay-too-high": Known(
        "weight decay pulls the weights to zero", "the weights' norm falls with every step",
        "Set weight_decay to 1e-2 or less (1e-4 under SGD)."),
    "scheduler-decays-too-fast": Known(
        "the schedule lowers the learning rate far too early", "print the learning rate at each epoch",
        "Call scheduler.step() once per epoch if it was made for epochs, or lengthen it."),
    "scheduler-misread": Known(
        "the schedule does something else than meant: a factor for a rate, a wrong mode, a factor above 1",
        "print the learning rate at each epoch", "Look at what the schedule multiplies, and at its mode."),
    "scheduler-not-stepped": Known(
        "the schedule is never stepped", "print the learning rate at each epoch", "Call scheduler.step()."),
    "constant-init": Known(
        "all units of the layer start equal", "compare the rows of the layer's weight",
        "Initialise weights at random: nn.init.kaiming_uniform_."),
    "init-too-large": Known(
        "weights or biases start too large", "the first loss is far above that of guessing",
        "Use the default initialisation, or nn.init.kaiming_normal_ with the right gain."),
    "init-too-small": Known(
        "weights start too small", "outputs fade from layer to layer", "Use nn.init.kaiming_normal_."),
    "dead-relu": Known(
        "units of a ReLU are off for every sample", "the share of zeros behind the activation",
        "Lower the learning rate, start the bias at 0, or use LeakyReLU or GELU."),
    "saturated-activation": Known(
        "sigmoid or tanh units sit in their flat parts", "the inputs of the activation are beyond 6 (3)",
        "Scale the inputs, start with smaller weights, normalise, or use ReLU."),
    "vanishing-gradient": Known(
        "the gradient fades on its way through the layers", "compare the gradients of the first and the last layer",
        "Use ReLU or GELU, normalisation, residual connections, or fewer layers."),
    "exploding-gradient": Known(
        "the gradient grows on its way through the layers or steps", "compare gradient norms from step to step",
        "Clip with torch.nn.utils.clip_grad_norm_, lower the learning rate, start recurrent weights smaller."),
    "updates-below-precision": Known(
        "updates are smaller than the weights' precision", "compare the weights before and after a step",
        "Keep the weights in float32 and compute under torch.autocast."),
    "gradients-underflow": Known(
        "gradients are too small for float16 and become zero", "the same step in float32 has gradients",
        "Scale the loss with torch.amp.GradScaler, or use bfloat16."),
    "loader-empty": Known(
        "the loader gives no batch", "len(loader) is 0", "Take drop_last away, or make the batch smaller."),
    "label-in-inputs": Known(
        "a column of the inputs tells the label", "correlate each column with the label",
        "Leave out what is known only after the label."),
    "output-unused": Known(
        "what the layer gives is not used", "follow its output through forward()",
        "Use the output, or leave the layer out."),
    "module-unused": Known(
        "a layer that was made for the task is not called", "a print in its forward",
        "Call it in forward, or assign it to the name that forward calls."),
    # ---- outputs and loss ----
    "double-softmax": Known(
        "a softmax or sigmoid stands before a loss that applies its own", "the outputs lie between 0 and 1",
        "Take the softmax or sigmoid away from the model's output; the loss takes raw scores."),
    "logits-to-nll": Known(
        "a loss of log-probabilities gets raw scores", "the outputs are above 0",
        "Use nn.CrossEntropyLoss, or apply F.log_softmax before the loss."),
    "loss-broadcast": Known(
        "prediction and target have shapes that are broadcast against each other", "print both shapes",
        "Give both the same shape: prediction.squeeze(-1), or target.unsqueeze(-1)."),
    "output-range": Known(
        "the last activation cannot reach the range of the targets", "compare min and max of outputs and targets",
        "Take the activation away from the output, or scale the targets into its range."),
    "softmax-over-wrong-axis": Known(
        "a softmax runs over an axis that is not the classes'", "print the sums over each axis", "Use dim=-1."),
    "targets-not-scaled": Known(
        "the targets are far from unit scale", "print their mean and standard deviation",
        "Standardise the targets, and undo it on predictions."),
    "real-class-ignored": Known(
        "ignore_index leaves out a class that counts", "count the targets equal to ignore_index",
        "Leave ignore_index at -100."),
    "wrong-loss-for-task": Known(
        "the loss does not measure the task", "think of the best output, and compute its loss",
        "Use cross-entropy for classes, a squared or absolute error for amounts."),
    "loss-sign": Known(
        "the objective has the wrong sign", "negate it: the other direction learns",
        "Minimise the loss, not its negative."),
    "loss-reduction-sum": Known(
        "the loss is a sum over the batch", "half the batch gives half the loss", "Use reduction='mean'."),
    # ---- data and mode ----
    "inputs-not-scaled": Known(
        "inputs, or some of their columns, are far from unit scale", "print mean and standard deviation of each column",
        "Standardise the inputs: (x - x.mean(0)) / x.std(0), or divide pixels by 255."),
    "inputs-collapsed": Known(
        "inputs hold nearly nothing: zeros, one value, scaled twice", "plot one input of the batch",
        "Scale once, and divide with / rather than //."),
    "inputs-corrupted": Known(
        "values of the inputs are mangled: a mark for missing values, an overflow", "print min and max of each column",
        "Replace marks such as -9999, and convert to float before computing."),
    "labels-not-of-inputs": Known(
        "labels do not belong to their inputs, or many are wrong",
        "look at ten samples with their labels; a model that cannot learn them can still learn one batch by heart",
        "Shuffle inputs and labels together, from one data set."),
    "train-test-leak": Known(
        "samples of the evaluation are also trained on", "compare hashes of the rows of both sets",
        "Split once, before anything is multiplied or shuffled."),
    "data-not-shuffled": Known(
        "batches hold one class at a time", "print the labels of a few batches", "Use DataLoader(…, shuffle=True)."),
    "classes-imbalanced": Known(
        "some classes are rare, and nothing makes up for it", "count the labels",
        "Weigh the loss by class, or sample the classes evenly."),
    "sampler-wrong": Known(
        "the sampler draws from a few rows only", "count the different rows of an epoch",
        "Give WeightedRandomSampler one weight per row."),
    "dataset-ignores-index": Known(
        "the data set returns the same item for every index", "compare dataset[0] and dataset[1]",
        "Use the index in __getitem__."),
    "workers-repeat": Known(
        "worker processes repeat each other's samples or random numbers", "compare batches of two workers",
        "Split the stream by get_worker_info(), and draw random numbers from torch."),
    "eval-in-train-mode": Known(
        "the model is evaluated in training mode", "print(model.training) in the evaluation",
        "Call model.eval() before the evaluation and model.train() after it."),
    "train-in-eval-mode": Known(
        "the model is trained in evaluation mode", "print(model.training) in the loop",
        "Call model.train() after each evaluation."),
    "dropout-always-on": Known(
        "dropout is applied whatever the mode", "two evaluations of one batch differ",
        "Use an nn.Dropout made in __init__, or F.dropout(x, training=self.training)."),
    "metric-not-reset": Known(
        "a sum or a list is not reset at each epoch", "the metric rises while the loss of single steps falls",
        "Set the sum and its count to zero at the beginning of each epoch."),
    "metric-broadcast": Known(
        "predictions and labels are broadcast against each other", "print both shapes",
        "Give both the same shape before comparing them."),
    "metric-wrong-denominator": Known(
        "the metric is divided by another count than that of the samples", "print the denominator",
        "Divide by the number of samples that were counted."),
    "too-much-regularisation": Known(
        "dropout or a penalty leaves too little of the signal", "training without it learns", "Lower the rate."),
    "model-too-small": Known(
        "a layer is too narrow for what has to pass through it", "a wider layer learns", "Widen the layer."),
    "frozen-by-accident": Known(
        "parameters that should learn do not require gradients", "print p.requires_grad", "Call requires_grad_(True)."),
    "tie-broken": Known(
        "weights that were one are two", "head.weight is embed.weight",
        "Assign the Parameter itself after the model is built, loaded and moved."),
    "replicas-differ": Known(
        "replicas do not hold the same weights", "compare the weights across ranks",
        "Wrap the model in DistributedDataParallel before the first step, and step alike on every rank."),
    "class-weights-wrong": Known(
        "the class weights favour the classes that are common anyway", "print the counts beside the weights",
        "Weigh by the inverse of the counts: weight = counts.sum() / (len(counts) * counts)."),
    "target-not-detached": Known(
        "the target is part of the graph", "print(target.requires_grad)",
        "Detach it: target = reward + gamma * value(after).detach()."),
    "detach-missing": Known(
        "what another model made is not detached", "the other model's gradients change in this backward pass",
        "Call detach() on it before it is passed on."),
    "gan-unbalanced": Known(
        "one of two adversaries wins, and leaves the other without a gradient", "compare the losses of both",
        "Take fewer or slower steps of the stronger one, and the non-saturating loss for the generator."),
    "wrong-backward": Known(
        "a hand-written backward pass is not the derivative of its forward pass",
        "torch.autograd.gradcheck(Function.apply, inputs in float64)",
        "Derive the backward pass again: one gradient for each argument of forward, in their order."),
    "padding-read": Known(
        "the state behind the padding is read, in which the words are forgotten",
        "the outputs of two rows with long padding are nearly equal",
        "Read the state at the last word: pack_padded_sequence, or gather at the lengths."),
    "mask-inverted": Known(
        "a mask hides what counts, and shows the padding", "print the mask of one sample beside its tokens",
        "Negate the mask: key_padding_mask is True where not to look."),
    "running-stats-wrong": Known(
        "running statistics are not those of the data", "compare running_mean with the mean of the layer's inputs",
        "Put frozen normalisation into evaluation mode, or leave momentum at 0.1."),
    # ---- order, building, checkpoints, metrics: told from the code itself ----
    "scheduler-too-short": Known(
        "the schedule ends before the training does", "compare scheduler.total_steps with len(loader) * epochs",
        "Give the schedule the number of steps that are taken: len(loader) * epochs."),
    "checkpoint-not-loaded": Known(
        "weights of a checkpoint do not reach the model", "print(model.load_state_dict(state, strict=False))",
        "Rename the keys until strict=True loads them, or look at missing_keys and unexpected_keys."),
    "checkpoint-aliases-weights": Known(
        "a kept state_dict() shares its memory with the weights that train on",
        "compare the kept state with model.state_dict() an epoch later",
        "Keep a copy: copy.deepcopy(model.state_dict())."),
    "best-model-by-wrong-mode": Known(
        "the worst model is kept for the best", "print the value that is kept with each new best",
        "Keep the model when the loss is lower, or when the score is higher."),
    "metric-on-wrong-data": Known(
        "the metric is computed on other data than it claims", "print which samples it counts",
        "Compute it over all batches of the validation loader."),
    "threshold-on-logits": Known(
        "a threshold for probabilities is applied to raw scores", "print min and max of what is compared",
        "Compare raw scores with 0, or take torch.sigmoid first."),
    "missing-activation": Known(
        "linear layers follow each other without a nonlinearity between them",
        "the product of their weights is one matrix", "Put nn.ReLU() or nn.GELU() between them."),
    "activation-on-output": Known(
        "an activation, dropout or normalisation stands on the output where it does not belong",
        "compare outputs in train() and eval() mode", "Take it away from the output."),
    "loss-terms-unbalanced": Known(
        "one term of the loss outweighs the others", "print each term by itself",
        "Reduce all terms in the same way: all summed, or all averaged."),
    "parametrization-stale": Known(
        "a parametrised weight is used before its constraint was computed",
        "the layer's norm falls over the first forward passes in train() mode",
        "Run some forward passes in train() mode first."),
    "input-resolution": Known(
        "inputs are far larger than the data are", "print the shape before and after",
        "Leave the images at their size, or shrink the model's strides."),
    "padding-idx-is-a-word": Known(
        "a real word has the index of the padding, so it is never learned", "count padding_idx in the batch",
        "Give the padding an index of its own."),
    "attention-not-scaled": Known(
        "attention scores are not divided by the root of their size", "print the largest attention weight",
        "Divide the scores by math.sqrt(q.size(-1)), or use F.scaled_dot_product_attention."),
    "adversarial-labels-wrong": Known(
        "real and fake are told apart by the wrong labels in one of the two losses", "print both losses",
        "The generator's loss compares the critic's answer to fakes with the label of the real."),
    "returns-wrong": Known(
        "returns are computed in the wrong order or from the wrong values", "print the rewards beside the returns",
        "The return of a step is the sum of the rewards from it on: sum(rewards[t:])."),
    "exploration-missing": Known(
        "the policy never tries other actions", "count the actions that are taken",
        "Sample the action from the distribution while training."),
    "augmentation-too-strong": Known(
        "augmentation destroys what the label depends on", "look at ten augmented samples", "Make it weaker."),
    # ---- NaN makers ----
    "nan-in-data": Known(
        "the batch holds NaN or infinite values", "nb.check(data) names the columns",
        "Drop or impute them when the batch is made."),
    "log-of-zero": Known(
        "a logarithm gets zero", "nb.replay() names the operation",
        "Clamp its input or use log1p; in a loss, use one that takes raw scores."),
    "sqrt-at-zero": Known(
        "a square root or norm is differentiated at zero", "nb.replay() names the operation",
        "Add a small eps inside it."),
    "division-by-zero": Known(
        "something is divided by zero", "nb.replay() names the operation", "Add a small eps to the denominator."),
    "exp-overflow": Known(
        "an exponential overflows", "nb.replay() names the operation",
        "Subtract the maximum first, or use torch.softmax and logsumexp."),
    "domain-error": Known(
        "a function gets values outside of its domain", "nb.replay() names the operation", "Clamp its input."),
    "where-gradient": Known(
        "the branch that torch.where does not take has a non-finite gradient", "nb.replay() names the operation",
        "Put safe values into the operation itself: torch.where inside and outside."),
    "mask-all-inf": Known(
        "every entry of a row is masked before a softmax", "count the entries that are left",
        "Keep at least one entry, or fill with a large negative number."),
    "half-overflow": Known(
        "a value is too large for float16", "run the step in float32",
        "Use bfloat16, or compute this part in float32."),
    "loader-bound": Known(
        "batches are made more slowly than they are trained on", "time the loop over the loader alone",
        "Give the DataLoader workers, or keep the data decoded."),
}  # fmt: skip


# What only a look at model and batch finds; each finding says it in its own words.
STRUCTURAL = frozenset((
    "activation-on-output", "axes-swapped", "batch-axis-mixed", "constructor-not-run", "device-mismatch",
    "dtype-mismatch", "flatten-missing", "index-out-of-range", "label-out-of-range",
    "last-batch-too-small", "map-too-small", "missing-activation", "modules-not-registered", "output-not-tensor",
    "parameter-not-registered", "running-stats-wrong", "scheduler-of-another-optimizer", "shape-mismatch",
    "sparse-gradient-unsupported", "train-method-overridden", "wrong-call",
))  # fmt: skip


def likely(*names: str, first: float = 0.7, fix: str = "") -> tuple[Cause, ...]:
    """Return causes by name, likeliest first; confidence falls from `first` to a half of it with each.

    Parameters
    ----------
    fix : str
        Remedy of the first cause, where more is known than the general one.
    """
    found = []
    for i, name in enumerate(dict.fromkeys(names)):
        known = CAUSES[name]
        found.append(Cause(text=known.text, test=known.test, fix=fix if fix and not i else known.fix,
                           confidence=round(first / 2**i, 2), name=name))  # fmt: skip
    return tuple(found)


def fix_of(name: str) -> str:
    """Return the general remedy of a cause."""
    return CAUSES[name].fix

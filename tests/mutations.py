"""Breaks the package in one place at a time, and sees the quick tests fail.

    python tests/mutations.py                    # all that can run here
    python tests/mutations.py --backends torch   # of some backends
    python tests/mutations.py --only mimo        # whose name has this in it

`make mutate` runs it. Every change is made in a copy of the repository in a
temporary folder, in which the tests that are expected to notice run without
what is marked `slow`. A change that they do not notice has survived: a test is
missing. The same tests must pass where nothing was changed.
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")
# Processes are forked from one that has these, which take seconds to import.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["keras", "pytest"])
MINUTES = 20
# What pytest returns where tests ran and failed, and where all passed.
PASSED, FAILED = 0, 1
# Where nobody says otherwise, as PyTorch has nothing to compile.
QUICKEST = ("torch",)


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Args:
        name: What is wrong after it.
        file: Path from the package's folder.
        old: Text that is in the file once.
        new: What takes its place.
        tests: Paths of the tests that must notice, from the folder `tests`.
        backends: The backends on which they must.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple
    backends: tuple = QUICKEST


def mutation(name, file, old, new, *tests, backends=QUICKEST):
    return Mutation(name, file, old, new, tests, backends)


MUTATIONS = [
    # Combiners.
    mutation(
        "mimo: the penalty is missing in the value",
        "combiners/mimo.py",
        "return fused + self.penalty * smooth_maximum",
        "return fused + smooth_maximum",
        "combiners/test_mimo.py",
    ),
    mutation(
        "mimo: the fused loss is one of the uni-modal ones",
        "combiners/mimo.py",
        "return active & ops.logical_not(self._is_fused())",
        "return active",
        "combiners/test_mimo.py",
    ),
    mutation(
        "gblending: what overfits has more weight",
        "combiners/gblending.py",
        "np.where(gained, gain, 0.0) / size / size",
        "np.where(gained, gain, 0.0) * size * size",
        "combiners/test_gblending.py",
    ),
    mutation(
        "gblending: overfitting is that of the validation loss alone",
        "combiners/gblending.py",
        "(val_after - train_after) - (val_before - train_before)",
        "val_after - val_before",
        "combiners/test_gblending.py",
    ),
    mutation(
        "combiner: what is not active is not masked",
        "combiners/combiner.py",
        "    x = ops.where(present, x, ops.zeros_like(x))\n",
        "",
        "combiners/test_combiner.py",
    ),
    mutation(
        "combiner: an inactive objective keeps its weight",
        "combiners/combiner.py",
        "return ops.where(active, ops.where(usual, weights, uniform), 0.0)",
        "return ops.where(usual, weights, uniform)",
        "combiners/test_combiner.py",
    ),
    mutation(
        "combiner: evaluation moves the state",
        "combiners/combiner.py",
        "keep = finite if training else ops.zeros_like(finite)",
        "keep = finite",
        "combiners/test_combiner.py",
        "combiners/test_wrappers.py",
    ),
    mutation(
        "combiner: the state of random numbers is not saved",
        "utils/kept_state.py",
        '            store[f"seed_{index}"] = generator.state\n',
        "            pass\n",
        "combiners/test_losses_only_training.py",
    ),
    mutation(
        "random combiners: the seed is lost",
        "combiners/gradient_surgery.py",
        "keras.random.SeedGenerator(seed)",
        "keras.random.SeedGenerator()",
        "combiners/test_properties.py::test_random_in_training_only",
    ),
    mutation(
        "smoothed: an absent objective's average is forgotten",
        "combiners/smoothed.py",
        "new = ops.where(present, new, old)",
        "new = ops.where(present, new, 0.0 * old)",
        "combiners/test_wrappers.py",
    ),
    mutation(
        "smoothed: the average is not corrected for its start",
        "combiners/smoothed.py",
        "total / ops.where(mass > 0, mass, 1.0)",
        "total",
        "combiners/test_wrappers.py",
    ),
    mutation(
        "rescaled: to the length of the sum",
        "combiners/rescaled.py",
        'if self.to == "mean":',
        'if self.to == "sum":',
        "combiners/test_wrappers.py",
    ),
    mutation(
        "rescaled: the mean is taken over all objectives",
        "combiners/rescaled.py",
        "ops.maximum(ops.sum(reference), 1.0)",
        "reference.shape[0]",
        "combiners/test_wrappers.py",
    ),
    mutation(
        "every n: solves a step late",
        "combiners/every_n.py",
        "ops.mod(self.step + 1, self.n)",
        "ops.mod(self.step + 1, self.n + 1)",
        "combiners/test_every_n.py",
    ),
    mutation(
        "mgda: the weights are not those of the rows that were not normalised",
        "combiners/mgda.py",
        'weights if self.mode == "reference" else weights / divisors',
        "weights",
        "combiners/test_mgda.py",
    ),
    mutation(
        "famo: no decay",
        "combiners/famo.py",
        "slope = slope + self.decay * self.logits",
        "slope = slope",
        "combiners/test_famo.py::test_steps_by_hand",
        "combiners/test_famo.py::test_compiled_update",
        backends=("jax", "torch"),
    ),
    mutation(
        "gradnorm: the targets know nothing of rates",
        "combiners/gradnorm.py",
        "_mean(norms, active) * self._rates(losses, active)",
        "_mean(norms, active) + 0 * self._rates(losses, active)",
        "combiners/test_gradnorm.py",
    ),
    mutation(
        "excess mtl: the sums are of this step alone",
        "combiners/excess_mtl.py",
        "total = ops.cast(variable, matrix.dtype) + matrix * matrix",
        "total = matrix * matrix",
        "combiners/test_rows.py::test_excess_mtl_by_hand",
    ),
    mutation(
        "moco: gradients of the batch are weighed",
        "combiners/moco.py",
        "return averages, averages",
        "return averages, rows",
        "combiners/test_rows.py::test_moco_by_hand",
    ),
    mutation(
        "rows: the loss scale stays in what is kept",
        "training/gradient_update.py",
        "combiner.show([m / self.scale for m in whole], active)",
        "combiner.show([m for m in whole], active)",
        "combiners/test_rows.py::test_rows_are_those_without_loss_scaling",
    ),
    mutation(
        "pcd: the others get no share",
        "combiners/pcd.py",
        "self.tau * sizes - along",
        "-along",
        "combiners/test_pinned.py",
    ),
    mutation(
        "dwa: compares an epoch with itself",
        "combiners/dwa.py",
        "self.mean_before.assign(last)",
        "self.mean_before.assign(mean)",
        "combiners/test_dwa.py::test_epochs_by_hand",
    ),
    mutation(
        "stch: the reference is added",
        "combiners/stch.py",
        "preferences * (losses - reference)",
        "preferences * (losses + reference)",
        "combiners/test_losses_only.py",
    ),
    mutation(
        "uncertainty: nothing keeps the weights from 0",
        "combiners/uncertainty.py",
        "terms = ops.exp(-log_variances) * losses + log_variances",
        "terms = ops.exp(-log_variances) * losses",
        "combiners/test_learned_weights.py",
    ),
    mutation(
        "aligned mtl: stretched by the square",
        "combiners/aligned_mtl.py",
        "stretch = ops.where(kept, ops.sqrt(ops.relu(ratios)), 0.0)",
        "stretch = ops.where(kept, ops.relu(ratios), 0.0)",
        "combiners/test_pinned.py",
    ),
    mutation(
        "pcgrad: turns what does not conflict",
        "combiners/gradient_surgery.py",
        "(cosine < targets)",
        "(cosine > targets)",
        "combiners/test_pinned.py",
    ),
    # Solvers.
    mutation(
        "min norm of two: the weights are exchanged",
        "solvers/min_norm.py",
        "ops.flip(ops.diagonal(gramian))",
        "ops.diagonal(gramian)",
        "solvers/test_min_norm.py",
        backends=BACKENDS,
    ),
    mutation(
        "quadratic program: indices never enter again",
        "solvers/nonnegative_qp.py",
        "passive = kept | entering",
        "passive = kept",
        "solvers/test_nonnegative_qp.py",
    ),
    mutation(
        "dual cone: does not start from the given weights",
        "solvers/dual_cone.py",
        "return (start + nonnegative_qp(matrix, -slopes)) / lengths",
        "return nonnegative_qp(matrix, -slopes) / lengths",
        "solvers/test_dual_cone.py",
    ),
    # Training.
    mutation(
        "conflict: inner products of 0 count",
        "training/compiled.py",
        "ops.cast(gramian < 0, gramian.dtype)",
        "ops.cast(gramian <= 0, gramian.dtype)",
        "training/test_conflict.py",
    ),
    mutation(
        "training: an absent objective is taken for active",
        "training/compiled.py",
        "actives = [active & ops.convert_to_tensor(r) for r in reached]",
        "actives = [ops.convert_to_tensor(r) for r in reached]",
        "objectives/test_class_groups.py",
        "objectives/test_missing_labels.py",
    ),
    mutation(
        "training: the Gramian is of scaled gradients",
        "training/gradient_update.py",
        "r.gramian(gramian) / self.scale / self.scale",
        "r.gramian(gramian) / self.scale",
        "gradients/test_balanced.py",
    ),
    mutation(
        "training: the losses of layers are lost",
        "gradients/balanced.py",
        "index: _add(combined[index], value)\n",
        "index: combined[index]\n",
        "test_fidelity.py::test_equals_plain_keras[layers_losses_and_weights]",
    ),
    mutation(
        "tables: a row that is there again is not summed",
        "gradients/sparse.py",
        "return cls(_at(distinct, values, rows), distinct, shape)",
        "return cls(values, rows, shape)",
        "gradients/test_sparse.py",
    ),
    mutation(
        "modulation: the stronger is sped up",
        "modulations/mlb.py",
        "pairwise(scores)))",
        "pairwise(1.0 - scores)))",
        "modulations/test_pinned.py",
    ),
    mutation(
        "modulation: OGM slows who is behind",
        "modulations/ogm.py",
        "ops.where(ahead > 1.0, slowed, 1.0)",
        "ops.where(ahead < 1.0, slowed, 1.0)",
        "modulations/test_pinned.py",
    ),
    mutation(
        "modulation: factors of updates are dropped",
        "training/modulated.py",
        "old + factor * (new - old)",
        "new",
        "modulations/test_in_models.py",
    ),
    mutation(
        "modulation: a batch without a modality is modulated",
        "modulations/modulation.py",
        "factors = ops.where(finite & self.acts(), factors, 1.0)",
        "factors = ops.where(self.acts(), factors, 1.0)",
        "modulations/test_in_models.py",
    ),
    mutation(
        "modulation: AGM keeps statistics of inputs with zeros",
        "training/training_step.py",
        "            variable.assign(value)\n        return outputs",
        "            pass\n        return outputs",
        "modulations/test_in_models.py",
    ),
    mutation(
        "tables: gradients are dense",
        "gradients/tensorflow.py",
        "_sparse(gradient, variable)\n",
        "_tensor(gradient)\n",
        "training/test_sparse_embedding.py",
        backends=("tensorflow",),
    ),
    mutation(
        "tables: gradients are sparse where coordinates are combined",
        "gradients/tensorflow.py",
        'replicas() > 1 or model.combiner.needs == "gradients"',
        "replicas() > 1",
        "training/test_sparse_embedding.py",
        backends=("tensorflow",),
    ),
    mutation(
        "blocks: all have the weights of the first",
        "training/compiled.py",
        "        return [\n            combiner(losses, gramian=gramian,",
        "        return [\n            combiner(losses, gramian=gramians[0],",
        "training/test_gradient_scope.py",
    ),
    mutation(
        "skipped steps: a combiner's state is kept after an overflow",
        "gradients/skipped.py",
        "variable.assign(ops.where(skipped, old, variable))",
        "variable.assign(variable)",
        "test_mixed_precision.py::"
        "test_a_step_that_overflows_leaves_no_trace_in_the_combiner",
        backends=("tensorflow", "torch"),
    ),
    mutation(
        "skipped steps: a combiner's state is kept after an overflow, on JAX",
        "gradients/jax.py",
        "jnp.where(skipped, old, new) if id(variable) in undone else new",
        "new",
        "test_mixed_precision.py::"
        "test_a_step_that_overflows_leaves_no_trace_in_the_combiner",
        backends=("jax",),
    ),
    mutation(
        "look again: with other random numbers",
        "gradients/rewind.py",
        "        _assign(self._before)\n",
        "",
        "gradients/test_look_again.py",
    ),
    # Engines.
    mutation(
        "processes: gradients are not averaged",
        "gradients/torch.py",
        "    flat /= replicas()\n",
        "",
        "test_distribution.py::test_replicas_equal_one_device",
    ),
    mutation(
        "processes: each keeps what it started from",
        "gradients/torch.py",
        "        distributed.broadcast(variable.value.detach(), 0)\n",
        "        pass\n",
        "test_distribution.py::test_replicas_equal_one_device",
    ),
    mutation(
        "replicas: rows are not summed",
        "gradients/tensorflow.py",
        "return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)",
        "return tensors",
        "test_distribution.py::test_replicas_equal_one_device[mirrored]",
        backends=("tensorflow",),
    ),
    *(
        mutation(
            f"{backend}: a gradient is that of the next objective",
            f"gradients/{backend}.py",
            old,
            new,
            "test_fidelity.py::test_equals_plain_keras["
            "eager_with_an_idle_head]",
            "training/test_gradient_scope.py::"
            "test_each_block_gets_its_own_solution",
            backends=(backend,),
        )
        for backend, old, new in [
            (
                "tensorflow",
                "return self._of_variables([self._outputs[k]], None, indices)",
                "return self._of_variables([self._outputs[k - 1]], None, "
                "indices)",
            ),
            (
                "torch",
                "return _gradients([self._outputs[k]], [None], "
                "self._at(indices))",
                "return _gradients([self._outputs[k - 1]], [None], "
                "self._at(indices))",
            ),
            (
                "jax",
                "trainable, _, _ = self._gradients([k], [1.0])",
                "trainable, _, _ = self._gradients([k - 1], [1.0])",
            ),
        ]
    ),
    mutation(
        "jax: what an objective does not reach has a gradient of zeros",
        "gradients/jax.py",
        "return [trainable[i] if reached[i] else None for i in indices]",
        "return [trainable[i] for i in indices]",
        "training/test_gradient_scope.py",
        "combiners/test_coordinates.py",
        backends=("jax",),
    ),
    # Objectives and fusion.
    mutation(
        "outputs: loss weights are ignored",
        "objectives/recorder.py",
        "value if weight == 1.0 else value * weight",
        "value",
        "objectives/test_outputs.py",
    ),
    mutation(
        "missing labels: are labels of 0",
        "objectives/missing_labels.py",
        "    set_keras_mask(output, mask)\n",
        "",
        "objectives/test_missing_labels.py",
    ),
    mutation(
        "modalities: without a combiner all losses are descended",
        "objectives/modalities.py",
        "        return {self.fused: 1.0}\n",
        "        return None\n",
        "objectives/test_modalities.py",
    ),
    mutation(
        "class groups: the mean is over the batch",
        "objectives/class_groups.py",
        "parts = means = totals / ops.maximum(counts, 1.0)",
        "parts = means = totals / members.shape[0]",
        "objectives/test_class_groups.py",
    ),
    mutation(
        "class groups: a sample of weight 0 counts",
        "objectives/class_groups.py",
        "ops.broadcast_to(weight != 0, ops.shape(terms))",
        "ops.broadcast_to(weight == weight, ops.shape(terms))",
        "objectives/test_class_groups.py",
    ),
    mutation(
        "fusion: logits in half precision",
        "fusion/encoded.py",
        "num_classes, activation, dtype=dtype, name=layer_name",
        "num_classes, activation, name=layer_name",
        "fusion/test_late_fusion.py",
    ),
    mutation(
        "export: every output is kept",
        "export/inference_model.py",
        'outputs.get("fused", structure)',
        "structure",
        "export/test_inference_model.py",
    ),
    mutation(
        "export: not the output that was asked for",
        "fusion/multimodal_model.py",
        "kept = {outputs: kept[outputs]}",
        'kept = {outputs: kept["fused"]}',
        "export",
    ),
    mutation(
        "saving: the old file is gone while the new one is written",
        "utils/atomic_write.py",
        "        yield str(unfinished)\n",
        "        yield str(target)\n        return\n",
        "test_resume.py",
    ),
    mutation(
        "saving: the random numbers of layers start anew",
        "training/random_state.py",
        "                state.assign(store[str(index)])\n",
        "                pass\n",
        "test_resume.py",
    ),
    mutation(
        "gradient blending: a measurement leaves the model as it made it",
        "callbacks/gradient_blending.py",
        "variable.assign(value)",
        "pass",
        "callbacks/test_gradient_blending.py",
    ),
    mutation(
        "gradient blending: draws from the random numbers of the run",
        "gradients/torch.py",
        "return torch.random.fork_rng()",
        "return contextlib.nullcontext()",
        "callbacks/test_gradient_blending.py",
    ),
    mutation(
        "gradient blending: all objectives are trained together",
        "callbacks/gradient_blending.py",
        "combiner.set_blend(np.eye(count)[k])",
        "pass",
        "callbacks/test_gradient_blending.py",
    ),
    mutation(
        "relearning: keeps what memorised",
        "callbacks/relearning.py",
        "(1 - alpha) * value + alpha * initial",
        "alpha * value + (1 - alpha) * initial",
        "callbacks/test_relearning.py",
    ),
    mutation(
        "relearning: features are not scaled",
        "callbacks/relearning.py",
        "means.fit_predict(scaled)",
        "means.fit_predict(features)",
        "callbacks/test_relearning.py",
    ),
    # Losses, metrics, callbacks, grouping, data.
    mutation(
        "logit adjustment: the wrong sign",
        "losses/logit_adjusted.py",
        "return y_pred + self.constant(shift)",
        "return y_pred - self.constant(shift)",
        "losses/test_class_count_losses.py",
    ),
    mutation(
        "ldam: margins widen the wrong logits",
        "losses/ldam.py",
        "y_pred - targets * self.constant(margins)",
        "y_pred - self.constant(margins)",
        "losses/test_class_count_losses.py",
    ),
    mutation(
        "balanced contrast: an anchor is its own positive",
        "losses/balanced_contrastive.py",
        "others = ops.where(itself, 0.0, same * similar)",
        "others = same * similar",
        "losses/test_balanced_contrastive.py",
    ),
    mutation(
        "balanced accuracy: counts classes without samples",
        "metrics/confusion_counts.py",
        "count = ops.sum(ops.cast(mask, values.dtype))",
        "count = ops.cast(values.shape[0], values.dtype)",
        "metrics/test_metrics.py",
    ),
    mutation(
        "backup: resumes an epoch too early",
        "callbacks/backup.py",
        "self.model._initial_epoch = epoch",
        "self.model._initial_epoch = epoch - 1",
        "test_resume.py",
    ),
    mutation(
        "BalanceMonitor: what counts in inference goes on",
        "callbacks/objective_gramians.py",
        "with keras.StatelessScope():",
        "if True:",
        "callbacks/test_balance_monitor.py",
        backends=("tensorflow", "torch"),
    ),
    mutation(
        "BalanceMonitor: gradients are sums over batches",
        "callbacks/objective_gramians.py",
        "[counts[k] or np.nan for k in sums]",
        "[1 for k in sums]",
        "callbacks/test_balance_monitor.py",
    ),
    mutation(
        "BalanceMonitor: to read data draws",
        "callbacks/kept_batches.py",
        "        np.random.set_state(states[1])\n",
        "",
        "callbacks/test_balance_monitor.py",
    ),
    mutation(
        "loss_landscape: weights stay where they are",
        "plots/landscape.py",
        "            variable.assign(value)\n\n    def move",
        "            pass\n\n    def move",
        "plots/test_landscape.py",
    ),
    mutation(
        "loss_landscape: filters are rows",
        "plots/landscape.py",
        "axes = tuple(range(value.ndim - 1))",
        "axes = tuple(range(1, value.ndim))",
        "plots/test_landscape.py",
    ),
    mutation(
        "pareto_front: those that are the same beat each other",
        "plots/pareto.py",
        "~(at_least & better)",
        "~at_least",
        "plots/test_scores.py",
    ),
    mutation(
        "class gradients: of the sum of the samples",
        "grouping/class_gradients.py",
        "scale = 1.0 / np.maximum(counts, 1)",
        "scale = np.ones(num_classes)",
        "grouping/test_class_gradients.py",
    ),
    mutation(
        "affinity: of inner products and not of cosines",
        "grouping/affinity.py",
        "cosines = gramian / norms / norms[:, None]",
        "cosines = gramian / norms.max() ** 2",
        "grouping/test_clusters.py",
    ),
    mutation(
        "long tail: the seed is lost",
        "datasets/long_tail.py",
        "np.random.RandomState(seed)",
        "np.random.RandomState()",
        "datasets/test_long_tail.py",
    ),
    mutation(
        "sound: what is above the band is damped by SciPy's own filter",
        "datasets/sound.py",
        "up, down, window=_low_pass(max(up, down))",
        "up, down",
        "datasets/test_sound.py",
    ),
    mutation(
        "sound: Kaldi's highest frequency counts",
        "datasets/sound.py",
        "triangles[-1] = 0",
        "triangles[-1] = 1",
        "datasets/test_sound.py",
    ),
    mutation(
        "decode cache: a damaged entry is believed",
        "datasets/decode_cache.py",
        "if not content or _checksum(content) != checksum:",
        "if not content:",
        "datasets/test_decode_cache.py",
    ),
    mutation(
        "decode cache: a source that changed is not decoded anew",
        "datasets/decode_cache.py",
        "key += [os.path.abspath(source), stat.st_size, stat.st_mtime_ns]",
        "key += [os.path.abspath(source), stat.st_size]",
        "datasets/test_decode_cache.py",
    ),
    mutation(
        "clips: what lacks a modality is left out where it is to be marked",
        "datasets/clips.py",
        'drop = incomplete == "drop" or',
        "drop = True or",
        "datasets/test_crema_d.py",
    ),
    mutation(
        "AV-MNIST: validation starts at the first row",
        "datasets/av_mnist.py",
        "row = self._start + index",
        "row = index",
        "datasets/test_av_mnist.py",
    ),
    mutation(
        "pickles: memory that no file has filled is shown",
        "datasets/safe_numpy.py",
        "if not isinstance(content, (bytes, bytearray)):",
        "if False:",
        "datasets/test_safe_numpy.py",
    ),
    mutation(
        "MOSEI: what is -inf stays so",
        "datasets/affect.py",
        'x["audio"][np.isneginf(x["audio"])] = 0',
        "",
        "datasets/test_cmu_mosei.py",
    ),
    mutation(
        "MM-IMDb: colours are in the order of the file",
        "datasets/mm_imdb_hdf5.py",
        "image[..., ::-1]",
        "image",
        "datasets/test_mm_imdb.py",
    ),
    mutation(
        "subset: reads the first samples",
        "datasets/samples.py",
        "return self.read(int(self.indices[index]))",
        "return self.read(index)",
        "datasets/test_samples.py",
    ),
    mutation(
        "from_tfds: a function gets no say",
        "datasets/tfds.py",
        "part(sample) if callable(part) else sample[part]",
        "sample[part]",
        "datasets/test_tfds.py",
    ),
    mutation(
        "on_the_fly_dropout: the weaker is dropped",
        "layers/on_the_fly_dropout.py",
        "mean_over_others(pairwise(scores)) - 1.0",
        "mean_over_others(1.0 / pairwise(scores)) - 1.0",
        "layers/test_on_the_fly_dropout.py",
    ),
    mutation(
        "on_the_fly_dropout: what is left is not scaled up",
        "layers/on_the_fly_dropout.py",
        "scale = ops.cast(1.0 / remaining, x.dtype)",
        "scale = ops.cast(1.0, x.dtype)",
        "layers/test_on_the_fly_dropout.py",
    ),
    mutation(
        "on_the_fly_dropout: no warm-up",
        "layers/on_the_fly_dropout.py",
        "warm & (ahead > 0)",
        "ahead > 0",
        "layers/test_on_the_fly_dropout.py",
    ),
    mutation(
        "prototype_rebalancing: the stronger is pushed",
        "losses/prototype_rebalancing.py",
        "best = ops.max(scores)",
        "best = ops.min(scores)",
        "losses/test_prototype_rebalancing.py",
    ),
    mutation(
        "prototype_rebalancing: the entropy is made small",
        "losses/prototype_rebalancing.py",
        "losses = losses - self.mu",
        "losses = losses + self.mu",
        "losses/test_prototype_rebalancing.py",
    ),
    mutation(
        "prototype_rebalancing: masked samples have part",
        "losses/prototype_rebalancing.py",
        "if mask is not None:",
        "if False:",
        "losses/test_prototype_rebalancing.py",
    ),
    mutation(
        "prototypes: a first mean is averaged with zeros",
        "layers/prototype_classifier.py",
        "momentum * known, 1.0)",
        "momentum, 1.0)",
        "layers/test_prototype_classifier.py",
    ),
    mutation(
        "update_prototypes: samples that lack a modality have part",
        "callbacks/update_prototypes.py",
        "classes = classes & present[0][:, None]",
        "pass",
        "callbacks/test_update_prototypes.py",
    ),
    mutation(
        "update_prototypes: the entropy never ends",
        "callbacks/update_prototypes.py",
        "early = epoch < self.early_epochs",
        "early = True",
        "callbacks/test_update_prototypes.py",
    ),
    # Teachers, ensembles and turns.
    mutation(
        "unimodal_teacher: samples that lack the modality have part",
        "layers/unimodal_teacher.py",
        "squares = ops.where(present, squares, 0.0)",
        "squares = ops.where(present, squares, squares)",
        "layers/test_unimodal_teacher.py",
    ),
    mutation(
        "unimodal_teacher: it can be trained after all",
        "layers/unimodal_teacher.py",
        "            variable.trainable = not frozen\n",
        "            variable.trainable = True\n",
        "layers/test_unimodal_teacher.py",
    ),
    mutation(
        "unimodal_ensemble: logits are averaged",
        "layers/mean_prediction.py",
        'if self.activation == "softmax":',
        "if False:",
        "layers/test_mean_prediction.py",
    ),
    mutation(
        "alternating_head: the less sure modality counts more",
        "layers/alternating_head.py",
        "ops.softmax(surety, axis=1)",
        "ops.softmax(-surety, axis=1)",
        "layers/test_alternating_head.py",
    ),
    mutation(
        "alternating_head: the head forgets",
        "layers/alternating_head.py",
        "turned = ops.matmul(ops.stop_gradient(x), projection)",
        "turned = ops.stop_gradient(x)",
        "layers/test_alternating_head.py",
    ),
    mutation(
        "alternating_head: what was seen is not kept",
        "layers/alternating_head.py",
        "self.projection.assign(projection)",
        "pass",
        "layers/test_alternating_head.py",
    ),
    mutation(
        "samples: those that are not there are zeros",
        "objectives/samples.py",
        "for r in records]) > 0",
        "for r in records]) >= 0",
        "objectives/test_samples.py",
    ),
    mutation(
        "samples: the weight of each is logged",
        "objectives/samples.py",
        "    many = True\n",
        "",
        "objectives/test_samples.py",
    ),
    # Contributions and comparisons.
    mutation(
        "contributions: orders do not count alike",
        "diagnostics/shapley.py",
        "/ (total * math.comb(total - 1, len(group)))",
        "/ (total * math.comb(total, len(group)))",
        "diagnostics/test_shapley.py",
    ),
    mutation(
        "contributions: an error as if reversed orders were new ones",
        "diagnostics/shapley.py",
        "np.reshape(g, (-1, 2)).mean(axis=1)",
        "np.reshape(g, (-1, 1)).mean(axis=1)",
        "diagnostics/test_shapley.py",
    ),
    mutation(
        "contributions: absent features are zeros, not what was learnt",
        "diagnostics/absence.py",
        "return layer._inbound_nodes[0].input_tensors[0], layer",
        "return layer._inbound_nodes[0].input_tensors[0], np.zeros_like",
        "diagnostics/test_contributions.py",
    ),
    mutation(
        "contributions: layers of the model keep the calls made inside",
        "diagnostics/absence.py",
        "del nodes[length:]",
        "pass",
        "diagnostics/test_contributions.py",
    ),
    mutation(
        "contributions: a modality is scored on samples that lack it",
        "diagnostics/contributions.py",
        "there = weights * present.get(name, 1)",
        "there = weights",
        "diagnostics/test_contributions.py",
    ),
    mutation(
        "report: what few samples say counts",
        "diagnostics/verdicts.py",
        "FEWEST = 30",
        "FEWEST = 2",
        "diagnostics/test_report.py",
    ),
    mutation(
        "report: a difference is found whatever its error",
        "diagnostics/evidence.py",
        "return self.mean > max(least, ERRORS * self.error)",
        "return self.mean > least",
        "diagnostics/test_report.py",
    ),
    mutation(
        "report: a frequent class that is always predicted is skill",
        "diagnostics/evidence.py",
        "return first @ share / first.sum(axis=1)",
        "return np.full(len(z), 1 / z.shape[1])",
        "diagnostics/test_report.py",
    ),
    mutation(
        "report: names are not escaped",
        "diagnostics/report_html.py",
        "<p>{escape(verdict.text)}</p>",
        "<p>{verdict.text}</p>",
        "diagnostics/test_report.py",
    ),
    mutation(
        "compare: the test data choose",
        "compare/schedule.py",
        'self._records[key]["validation"] for key in keys',
        'self._records[key]["fused"] for key in keys',
        "compare/test_compare.py",
    ),
    mutation(
        "compare: runs are found again whatever they share has changed",
        "compare/schedule.py",
        "[self._shared, self._description(given), own]",
        "[self._description(given), own]",
        "compare/test_compare.py",
    ),
    mutation(
        "compare: a file that was not finished is a run",
        "compare/kept.py",
        'if not path.name.startswith("unfinished_"):',
        "if True:",
        "compare/test_compare.py",
    ),
    mutation(
        "compare: runs share a combiner",
        "compare/methods.py",
        "return type(value).from_config(value.get_config())",
        "return value",
        "compare/test_methods.py",
    ),
    mutation(
        "compare: an interval of unpaired differences",
        "compare/intervals.py",
        "error = gaps.std(ddof=1) / math.sqrt(len(gaps))",
        "error = np.hypot(np.std(values, ddof=1), np.std(others, ddof=1)) / 2",
        "compare/test_table.py",
    ),
    # Encoders.
    mutation(
        "ResNet-18: pads on one side",
        "models/resnet18.py",
        "size // 2, data_format",
        "((0, size // 2 * 2), size // 2), data_format",
        "models/test_resnet18.py",
    ),
    mutation(
        "attention: sees padding",
        "models/attention.py",
        "attention(y, y, attention_mask=ops.expand_dims(present, 1))",
        "attention(y, y)",
        "models/test_transformer.py",
    ),
    mutation(
        "attention: positions are all the first",
        "models/attention.py",
        'ops.cumsum(ops.ones_like(present, dtype="int32"), axis=1) - 1',
        'ops.zeros_like(present, dtype="int32")',
        "models/test_transformer.py",
    ),
    mutation(
        "text encoder: segments are not those of the first text",
        "models/text_encoder.py",
        "ops.zeros_like(ids)",
        "ops.ones_like(ids)",
        "models/test_text_encoder.py",
    ),
    mutation(
        "cosine classifier: the kernel keeps its lengths",
        "layers/cosine_classifier.py",
        "kernel = unit_length(ops.cast(self.kernel, dtype), axis=0)",
        "kernel = ops.cast(self.kernel, dtype)",
        "layers/test_cosine_classifier.py",
    ),
]


def copy_to(folder):
    """A copy of the repository, without what is built or not tracked."""
    for name in ("keras_mimo", "tests", "docs", "examples", "benchmarks"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.png"),
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)


def check_texts(mutations):
    """Raises unless every text that is to be changed is there once."""
    lost = [
        f"{m.name}: must be in {m.file} once: {m.old!r}"
        for m in mutations
        if (ROOT / "keras_mimo" / m.file).read_text("utf-8").count(m.old) != 1
    ]
    if lost:
        raise SystemExit("\n".join(lost))


def change(mutation, folder):
    """Makes the change in a copy of the repository."""
    path = folder / "keras_mimo" / mutation.file
    text = path.read_text("utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")


def run_tests(folder, tests, *options):
    """Runs tests in a copy of the repository: what pytest returns, prints."""
    printed = folder / "printed.txt"
    process = PROCESSES.Process(
        target=_run_tests, args=(folder, tests, options, printed)
    )
    process.start()
    process.join(60 * MINUTES)
    process.kill()
    process.join()
    return process.exitcode, printed.read_text("utf-8", errors="replace")


def _run_tests(folder, tests, options, printed):
    import pytest

    output = os.open(printed, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    # Before the package as it may be installed, in other processes too.
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    sys.dont_write_bytecode = True
    paths = [f"tests/{test}" for test in tests]
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", *options]
    sys.exit(pytest.main([*options, *paths]))


def outcome(mutation):
    """Whether the tests notice a change, how long that took, what failed."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copy_to(folder)
        change(mutation, folder)
        code, output = run_tests(folder, mutation.tests, "-x")
    seconds = time.monotonic() - start
    if code == PASSED:
        return "survived", seconds, ""
    failed = [x for x in output.splitlines() if x.startswith("FAILED ")]
    if code != FAILED or not failed:
        # Tests that do not even run have noticed nothing.
        return "broken", seconds, output
    noticed = failed[0].removeprefix("FAILED tests/").split(" - ")[0]
    return "killed", seconds, noticed


def unchanged(mutations):
    """Raises unless the tests pass where nothing is changed."""
    tests = sorted({test for m in mutations for test in m.tests})
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copy_to(folder)
        code, output = run_tests(folder, tests)
    if code != PASSED:
        raise SystemExit(f"Tests fail where nothing is changed:\n{output}")


def run(mutations, backend, jobs):
    """Prints what becomes of each mutation; returns how many are noticed."""
    os.environ.update(KERAS_BACKEND=backend, OMP_NUM_THREADS="1")
    print(f"| change, on {backend} | | seconds | noticed first by |")
    print("| --- | --- | ---: | --- |", flush=True)
    results = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(outcome, m) for m in mutations]
        control = pool.submit(unchanged, mutations)
        for mutation, future in zip(mutations, waiting, strict=True):
            result, seconds, detail = future.result()
            results.append(result)
            noticed = detail if result == "killed" else ""
            row = f"| {mutation.name} | {result} | {seconds:.0f} | {noticed} |"
            print(row, flush=True)
            if result == "broken":
                print(detail, file=sys.stderr)
        control.result()
    print(f"{results.count('killed')} of {len(results)} changes are noticed\n")
    return results.count("killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=BACKENDS
    )
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    check_texts(MUTATIONS)
    if len(options.backends) > 1:
        # A process for each, which imports Keras on its backend.
        codes = [
            subprocess.run(
                [
                    *(sys.executable, __file__, "--backends", backend),
                    *("--only", options.only, "--jobs", str(options.jobs)),
                ]
            ).returncode
            for backend in options.backends
            if any(
                backend in m.backends and options.only in m.name
                for m in MUTATIONS
            )
        ]
        sys.exit(any(codes))
    (backend,) = options.backends
    chosen = [
        mutation
        for mutation in MUTATIONS
        if backend in mutation.backends and options.only in mutation.name
    ]
    if not chosen:
        # No tests to run would be all tests for pytest.
        sys.exit(f"no change called {options.only!r} is for {backend}")
    sys.exit(run(chosen, backend, options.jobs) < len(chosen))


if __name__ == "__main__":
    main()

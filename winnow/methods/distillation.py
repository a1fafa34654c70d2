"""Distillation: a teacher that learnt from checked labels has a say in what the student learns from noisy ones.

Li et al. 2017, arXiv:1703.02391; plain distillation after Hinton et al. 2015, arXiv:1503.02531; privileged information
after Lopez-Paz et al. 2016, arXiv:1511.03643. The paper's lambda weighs the teacher in its objective and the label in
its proposition; here `w_given` weighs the given label and `w_teacher` = 1 - `w_given` the teacher, everywhere.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from winnow.errors import InputError, UsageError
from winnow.functional.calibration import fitted_temperature
from winnow.functional.class_graph import (
    Siblings,
    confused_siblings,
    read_siblings,
    siblings_of_groups,
    spread,
    spreading_matrix,
)
from winnow.functional.cross_fitting import stratified_folds
from winnow.functional.stored_targets import StoredTargets, all_probs, largest_probs
from winnow.functional.task import over_known_cells
from winnow.methods.base import Batch, Draw, Losses, Method, Moment, Need, Phase, Problem, Turn, cosine_in_phase
from winnow.methods.ranges import at_least, in_interval, one_of
from winnow.models import Network
from winnow.noise.hierarchy import CIFAR100_SUPERCLASSES
from winnow.noise.risks import Risks, estimated_cell_risks, estimated_risks
from winnow.survey import Survey

FOLDS = 3
STORED_CLASSES = 8
_SIBLINGS = 3
_ROWS = 4096


def distillation_loss(
    logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    temperature: float,
    w_teacher: float,
) -> Float[Tensor, ""]:
    """Hinton et al.: (1 - w) CE(targets, p) + w t^2 KL(softmax(teacher_logits / t) || softmax(logits / t)).

    The factor t^2 keeps the size of the gradient, which tends to the difference of the centred logits over K; a
    learning rate that is raised with t as well would count it twice. The teacher gets no gradient.

    Args:
        logits: the student's, before the softmax.
        teacher_logits: before the softmax.
        targets: class indices, or distributions.
        temperature: t, above 0.
        w_teacher: w, weight of the teacher, in [0, 1].

    Returns:
        Mean loss over the batch, in nats.
    """
    soft = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    divergence = F.kl_div(F.log_softmax(logits / temperature, dim=1), soft, reduction="batchmean", log_target=True)
    return (1 - w_teacher) * F.cross_entropy(logits, targets) + w_teacher * temperature**2 * divergence


def mixed_risk(w_given: float, label_risk: float, teacher_risk: float, covariance: float = 0.0) -> float:
    """Mean squared error of w_given * label + (1 - w_given) * belief, from those of `Risks`."""
    w_teacher = 1 - w_given
    return w_given**2 * label_risk + w_teacher**2 * teacher_risk + 2 * w_given * w_teacher * covariance


def optimal_given_weight(label_risk: float, teacher_risk: float, covariance: float = 0.0) -> float:
    """The w_given in [0, 1] of least `mixed_risk`: (Rs - C) / (Ry + Rs - 2 C), clipped.

    The paper's proposition is the case C = 0, where the mixture is better than either: Ry Rs / (Ry + Rs). Where label
    and belief never differ every weight is as good, and the label is kept.
    """
    difference = label_risk + teacher_risk - 2 * covariance
    return min(1.0, max(0.0, (teacher_risk - covariance) / difference)) if difference > 0 else 1.0


def mixed_targets(
    given: Float[Tensor, "batch classes"],
    beliefs: Float[Tensor, "batch classes"],
    w_given: float | Float[Tensor, "batch #classes"],
) -> Float[Tensor, "batch classes"]:
    """w_given * given + (1 - w_given) * beliefs: cross-entropy to it is the mixture of both cross-entropies."""
    return w_given * given + (1 - w_given) * beliefs


class Distillation(Method):
    """Distillation from checked labels. At `w_given=1` it is cross-entropy.

    A teacher learns from the verified images. A student of the same architecture then learns from all of them: its
    target is w_given times the given label plus w_teacher times the teacher's belief about the view that the student
    sees, perhaps spread over related classes. A verified image's target is its label, and so is that of an image with
    a given label of which the verified images hold no example: the teacher gives such a class no mass.

    Unless told, the teacher's temperature and the weights come from cross-fitting: three teachers, each of which
    learns from two thirds of the verified images, judge the rest. Being weaker than the last one, they let the label
    weigh a little too much rather than too little. The weights assume label noise that depends on the true class, and
    make the squared error of the targets least; the best student may want more of the label than that.

    The teachers' steps come on top of the epochs, of which the student has all.

    Args:
        problem: what to learn.
        w_given: weight of the given label, in [0, 1]; -1 = estimated.
        graph: which classes are related: `none`, `visual` (those that the teachers confuse most), `cifar100` (its
            superclasses), or the path of a class graph: a .csv of child,parent or class,class, or WordNet's is-a list.
        beta: share of a belief that goes from a class to its siblings, in [0, 1].
        temperature: the teacher's logits are divided by it, above 0; 0 = calibrated (of a given teacher: 1).
        teacher: path of a .npy file with a teacher's class probabilities, (N, K), images in their order: the teacher
            may have seen whatever it likes, other pictures or privileged information. Needs `w_given`, as nobody knows
            what it learnt from, but no verified labels. Empty = trained here.
        teacher_steps: of the training of each teacher, at least 1.
        teacher_views: what it learns from, `weak` or `strong`.
        stored: ask the teacher once, about plain views, and keep the eight most probable classes of each image, instead
            of asking in every step.

    Raises:
        ValueError: an option lies outside its range.
        InputError: a file cannot be used.
    """

    name = "distillation"
    title = "teacher from checked labels"
    paper = "Li et al. 2017, arXiv:1703.02391"
    assumes = "class-conditional"
    remedy = "cleansing"
    cost = 1.33
    needs = frozenset({Need.VERIFIED})
    multilabel = True
    verified: Tensor
    is_verified: Tensor
    taught: Tensor
    out_of_fold: Tensor
    given_weight: Tensor
    used_temperature: Tensor
    risks: Tensor
    spreading: Tensor | None

    def __init__(
        self,
        problem: Problem,
        *,
        w_given: float = -1.0,
        graph: str = "none",
        beta: float = 0.1,
        temperature: float = 0.0,
        teacher: str = "",
        teacher_steps: int = 300,
        teacher_views: str = "strong",
        stored: bool = False,
    ):
        super().__init__(problem)
        if not (0 <= w_given <= 1 or w_given == -1):
            raise ValueError(f"w_given must lie in [0, 1], or be -1 to estimate it, got {w_given}")
        in_interval("[0, 1]", beta=beta)
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, or 0 to calibrate it, got {temperature}")
        at_least(1, teacher_steps=teacher_steps)
        one_of(("weak", "strong"), teacher_views=teacher_views)
        if teacher and w_given == -1:
            raise ValueError("w_given must be told where the teacher is given: it may have learnt from these images")
        if teacher and graph == "visual":
            raise ValueError("graph=visual needs a teacher that is trained here, not a given one")
        several, classes = problem.noisy_labels.ndim == 2, problem.num_classes
        rows = np.intersect1d(problem.verified, problem.train_rows)
        labels = problem.noisy_labels[rows]
        if teacher:
            self.needs = frozenset()
        self.beta = beta
        self.teacher_steps = teacher_steps
        self.teacher_views = teacher_views
        self.ignores_teacher = w_given == 1
        self.told = _told_beliefs(Path(teacher), problem) if teacher else None
        self.teacher = None if teacher or self.ignores_teacher else problem.network("teacher")
        self.estimates_weight = w_given == -1
        self.calibrates = self.teacher is not None and temperature == 0
        self.is_visual = self.teacher is not None and graph == "visual"
        self.cross_fits = self.estimates_weight or self.calibrates or self.is_visual
        # Several classes an image have no one class by which to divide.
        folds = stratified_folds(np.zeros(len(rows), dtype=np.int64) if several else labels, FOLDS, problem.seed)
        self.folds = [rows[folds == fold] for fold in range(FOLDS)]
        taught = np.ones(classes, dtype=bool) if teacher else _exemplified(labels, classes)
        fixed = {"verified": rows, "is_verified": np.isin(np.arange(problem.num_samples), rows), "taught": taught}
        for name, values in fixed.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.register_buffer("out_of_fold", torch.zeros(len(rows) if self.cross_fits else 0, classes))
        self.register_buffer("given_weight", torch.tensor(0.5 if self.estimates_weight else w_given))
        self.register_buffer("used_temperature", torch.tensor(temperature or 1.0))
        self.register_buffer("risks", torch.zeros(len(Risks._fields)))
        siblings = _siblings(graph, problem)
        # Dense: K x K numbers are few beside a network, and a product with them is as fast as one with the edges.
        self.register_buffer("spreading", None if siblings is None else spreading_matrix(siblings, beta).to_dense())
        self.kept = min(STORED_CLASSES, classes)
        self.stored = (stored or bool(teacher)) and not self.ignores_teacher
        if self.stored:
            self.memory = StoredTargets(
                problem.memory, classes, kept=STORED_CLASSES, name="teacher-beliefs", exclusive=not several
            )

    def plan(self, epochs: int) -> list[Phase]:
        """The teachers for cross-fitting, the teacher, the student."""
        phases = []
        begin = self.take_over if self.told is not None and self.stored else None
        if self.teacher is not None:
            if len(self.verified) < 2 * FOLDS:
                raise UsageError(
                    f"--method {self.name} needs at least {2 * FOLDS} verified images to train on, "
                    f"got {len(self.verified)}"
                )
            wanted = [*range(FOLDS), None] if self.cross_fits else [None]
            phases = [self._teaching(self.teacher, fold) for fold in wanted]
            begin = self.settle if self.cross_fits else None
        asks = self.teacher is not None and (self.stored or self.estimates_weight)
        student = Phase(
            "student",
            [Turn(self.loss, self.classifier.parameters, optimizer="student")],
            epochs=epochs,
            begin=begin,
            revise=self.ask if asks else None,
            revise_every=0,
            schedule=cosine_in_phase,
        )
        return [*phases, student]

    def _teaching(self, teacher: Network, fold: int | None) -> Phase:
        """A teacher's training: on all verified images, or on those outside of a fold, which it judges meanwhile."""
        learnt = np.concatenate([rows for number, rows in enumerate(self.folds) if number != fold])
        draws = {
            # It sees nothing and is as long as an epoch, so that tests come no more often than in the rest of the run.
            "train": Draw(views=()),
            "verified": Draw(samples=lambda: learnt, views=(self.teacher_views,)),
        }
        if fold is not None:
            judged = self.folds[fold]
            draws["held out"] = Draw(samples=lambda: judged, views=("plain",), size=1 / (FOLDS - 1))
        name = "teacher" if fold is None else f"cross-fit {fold + 1}"

        def begin() -> None:
            teacher.load_state_dict(self.problem.network(name).state_dict())

        return Phase(
            name,
            [Turn(self.teach, teacher.parameters, optimizer="teacher")],
            steps=self.teacher_steps,
            begin=begin,
            draws=draws,
            schedule=cosine_in_phase,
        )

    def teach(self, batch: Batch, moment: Moment) -> Losses:
        """Cross-entropy on verified images; what is thought of the fold that is held out is kept for `settle`."""
        assert self.teacher is not None
        if "held out" in batch.streams:
            held_out = batch.streams["held out"]
            with torch.no_grad():
                logits = self.teacher.eval()(held_out.images)
                self.out_of_fold[torch.searchsorted(self.verified, held_out.indices)] = logits.float()
        verified = batch.streams["verified"]
        logits = self.teacher.train()(verified.images)
        return {"teacher": self.problem.task.cross_entropy(logits, verified.noisy_labels)}

    def settle(self) -> None:
        """The temperature and the visual graph, from what each fold's teacher thinks of the fold."""
        labels = self.problem.noisy_labels[self.verified.cpu().numpy()]
        if self.calibrates:
            scores, wanted = self.out_of_fold.cpu(), torch.from_numpy(labels).long()
            if labels.ndim == 2:  # each known cell is a choice between absent, of score 0, and present
                present = scores[wanted >= 0]
                scores, wanted = torch.stack([torch.zeros_like(present), present], dim=1), wanted[wanted >= 0]
            self.used_temperature.fill_(fitted_temperature(scores, wanted))
        if self.is_visual:
            assert self.spreading is not None
            given = labels if labels.ndim == 2 else np.eye(self.problem.num_classes, dtype=np.int64)[labels]
            probs = self.probabilities(self.out_of_fold).cpu().numpy()
            counts = (given == 1).sum(axis=0).clip(min=1)
            confusion = (given == 1).T @ (probs * (given == 0)) / counts[:, None]
            self.spreading.copy_(spreading_matrix(confused_siblings(confusion, top=_SIBLINGS), self.beta).to_dense())

    def take_over(self) -> None:
        """A given teacher's beliefs come into the memory."""
        assert self.told is not None
        for start in range(0, len(self.told), _ROWS):
            part = torch.from_numpy(self.told[start : start + _ROWS].astype(np.float32)).clamp_min(1e-12)
            logits = part.log()
            if self.problem.noisy_labels.ndim == 2:
                logits = logits - (1 - part).clamp_min(1e-12).log()
            beliefs = self.spread(self.probabilities(logits.to(self.verified.device)))
            self.memory.write(torch.arange(start, start + len(part)), beliefs)

    def ask(self, survey: Survey) -> None:
        """Estimates the weights, and keeps the teacher's beliefs about plain views, whichever is wanted."""
        classes = torch.from_numpy(survey.values["teacher_classes"]).long()
        values = torch.from_numpy(survey.values["teacher_beliefs"])
        if self.stored:
            self.memory.write_largest(torch.arange(len(classes)), classes, values)
        if not self.estimates_weight:
            return
        labels, verified = self.problem.noisy_labels, self.verified.cpu().numpy()
        rows = np.setdiff1d(self.problem.train_rows, verified)
        if labels.ndim == 1:  # the teacher has no say where the given label is of another class
            rows = rows[self.taught.cpu().numpy()[labels[rows]]]
        if len(rows):
            beliefs = all_probs(classes[rows], values[rows], self.problem.num_classes).numpy()
            held_out = self.spread(self.probabilities(self.out_of_fold)).cpu().numpy()
            estimate = estimated_cell_risks if labels.ndim == 2 else estimated_risks
            risks = estimate(held_out, labels[verified], beliefs, labels[rows])
            self.risks.copy_(torch.tensor(risks))
            self.given_weight.fill_(optimal_given_weight(*risks))

    def observe(self, images: Tensor) -> dict[str, Tensor]:
        """The student's view and, where a teacher was trained, what it believes most."""
        seen = super().observe(images)
        if self.teacher is not None:
            seen["teacher_classes"], seen["teacher_beliefs"] = largest_probs(self.opinion(images), self.kept)
        return seen

    def probabilities(self, logits: Tensor) -> Float[Tensor, "batch classes"]:
        """Class probabilities at the temperature in use."""
        return self.problem.task.probabilities(logits / self.used_temperature)

    @torch.no_grad()
    def opinion(self, images: Tensor) -> Float[Tensor, "batch classes"]:
        """The teacher's calibrated and spread belief about some views, in evaluation mode."""
        assert self.teacher is not None
        return self.spread(self.probabilities(self.teacher.eval()(images).float()))

    def spread(self, beliefs: Tensor) -> Float[Tensor, "batch classes"]:
        """Beliefs spread over siblings, if there is a graph."""
        if self.spreading is None:
            return beliefs
        return spread(beliefs, self.spreading, exclusive=self.problem.noisy_labels.ndim == 1)

    def beliefs_of(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """What the teacher believes of a batch: asked now, or looked up."""
        return self.memory.read(batch.indices) if self.stored else self.opinion(batch.images)

    def loss(self, batch: Batch, moment: Moment) -> Losses:
        """Cross-entropy to the mixed targets."""
        logits, labels = self.classifier(batch.images), batch.noisy_labels
        if self.ignores_teacher:
            return {"distillation": self.problem.task.cross_entropy(logits, labels)}
        verified = self.is_verified[batch.indices][:, None]
        if labels.dim() == 2:
            given, taught = labels.clamp_min(0).float(), self.taught
        else:
            given, taught = F.one_hot(labels, self.problem.num_classes).float(), self.taught[labels][:, None]
        w_given = torch.where(taught & ~verified, self.given_weight, 1.0)
        targets = mixed_targets(given, self.beliefs_of(batch), w_given)
        if labels.dim() == 2:
            return {"distillation": over_known_cells(F.softplus(logits) - targets * logits, labels)}
        return {"distillation": F.cross_entropy(logits, targets)}

    def log_values(self) -> dict[str, float]:
        """Weights and temperature in use, and the risks that they come from."""
        values = {"w_given": self.given_weight.item(), "temperature": self.used_temperature.item()}
        if self.estimates_weight:
            names = ("label_risk", "teacher_risk", "error_covariance")
            values |= dict(zip(names, self.risks.tolist(), strict=True))
        return values


def _exemplified(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Of which classes labels hold an example; with several classes an image, one of presence and one of absence."""
    if labels.ndim == 2:
        return (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return np.isin(np.arange(num_classes), labels)


def _siblings(graph: str, problem: Problem) -> Siblings | None:
    """The siblings of each class; before anybody was asked for confusions there are none."""
    classes = problem.num_classes
    if graph == "none":
        return None
    if graph == "visual":
        return [[] for _ in range(classes)]
    if graph == "cifar100":
        if classes != 100:
            raise ValueError(f"graph=cifar100 is for 100 classes, these are {classes}")
        return siblings_of_groups(CIFAR100_SUPERCLASSES, classes)
    if not Path(graph).is_file():
        raise ValueError(f"graph must be none, visual, cifar100 or the path of a class graph, got {graph!r}")
    return read_siblings(Path(graph), problem.class_names)


def _told_beliefs(path: Path, problem: Problem) -> np.ndarray:
    """A given teacher's probabilities, mapped into memory and checked."""
    wanted = (problem.num_samples, problem.num_classes)
    try:
        told = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no .npy file of a teacher's probabilities: {error}") from error
    if not isinstance(told, np.ndarray) or told.shape != wanted or told.dtype.kind != "f":
        shape = f"{told.dtype} {told.shape}" if isinstance(told, np.ndarray) else "several arrays"
        raise InputError(f"{path}: a teacher's probabilities must be floats {wanted}, images and classes, got {shape}")
    for start in range(0, len(told), _ROWS):
        part = told[start : start + _ROWS].astype(np.float64)
        fine = ((part >= 0) & (part <= 1)).all(axis=1)
        if problem.noisy_labels.ndim == 1:
            fine &= np.abs(part.sum(axis=1) - 1) < 0.01
        if not fine.all():
            row = start + int(np.flatnonzero(~fine)[0])
            raise InputError(f"{path}: row {row} holds no class probabilities")
    return told

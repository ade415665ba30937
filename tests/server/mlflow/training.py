"""What libraries log to MLflow by themselves: Lightning, Hugging Face, scikit-learn, xgboost, MLflow's own sampler.

``python training.py PART`` with MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN set; the last line of what it prints is
JSON: what was trained, which is to be found in the workspace afterwards. Nothing of nbops is imported here.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.tracking import MlflowClient

Told = dict[str, Any]
parts: dict[str, Callable[[], Told]] = {}


def part(function: Callable[[], Told]) -> Callable[[], Told]:
    parts[function.__name__] = function
    return function


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables for a while."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)  # MLflow takes its run id away itself


def downloaded(run_id: str, path: str) -> Path:
    """Return where the client put a run's file or folder."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path))


@part
def lightning() -> Told:
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import Callback, ModelCheckpoint
    from pytorch_lightning.loggers import MLFlowLogger

    class Line(pl.LightningModule):
        def __init__(self, lr: float = 0.1, layers: tuple[int, ...] = (2, 1), note: str = "x" * 400) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(*layers)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = ((self.layer(batch[0]) - batch[1]) ** 2).mean()
            self.log("train/loss (mse)", loss)
            if os.environ.get("BREAK"):
                raise RuntimeError("on purpose")
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", ((self.layer(batch[0]) - batch[1]) ** 2).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])

    class Witness(Callback):
        """Sees the same numbers as the logger."""

        def __init__(self) -> None:
            self.train: list[float] = []
            self.val: list[float] = []

        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            self.train.append(float(trainer.callback_metrics["train/loss (mse)"]))

        def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
            self.val.append(float(trainer.callback_metrics["val_loss"]))

    torch.manual_seed(0)
    x = torch.randn(32, 2)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)

    def fit(logger: Any) -> tuple[Witness, ModelCheckpoint]:
        seen, best = Witness(), ModelCheckpoint(monitor="val_loss", filename="best-{epoch}")
        pl.Trainer(
            max_epochs=3, logger=logger, callbacks=[seen, best], log_every_n_steps=1, accelerator="cpu",
            num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
        ).fit(Line(), data, data)  # fmt: skip
        return seen, best

    logger = MLFlowLogger("lightning", run_name="line", log_model=True, tags={"team": "a"})
    seen, best = fit(logger)
    name = Path(best.best_model_path).stem
    path = downloaded(logger.run_id, name)
    loaded = Line.load_from_checkpoint(path / Path(best.best_model_path).name)
    state = torch.load(best.best_model_path, weights_only=False)["state_dict"]
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())
    told: Told = {"run": logger.run_id, "train": seen.train, "val": seen.val, "checkpoint": name}
    again, _ = fit(MLFlowLogger("lightning", run_id=logger.run_id))
    told["again"] = again.train
    broken = MLFlowLogger("lightning", run_name="broken")
    with environment(BREAK="1"), suppress(RuntimeError):
        fit(broken)
    return {**told, "broken": broken.run_id}


@part
def hugging_face() -> Told:
    import torch
    import transformers
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    def trainer(folder: str) -> Any:
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        model = BertForSequenceClassification(BertConfig(vocab_size=16, max_position_embeddings=8, **sizes))
        data = [{"input_ids": torch.tensor([1, 2, 3, i % 16]), "labels": torch.tensor(i % 2)} for i in range(16)]
        args = TrainingArguments(
            folder, report_to="mlflow", run_name="bert", max_steps=4, logging_steps=1, save_steps=2,
            per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        return Trainer(model=model, args=args, train_dataset=data)

    def losses(trained: Any) -> list[list[float]]:
        return [[one["step"], one["loss"]] for one in trained.state.log_history if "loss" in one]

    def ended(experiment: str) -> str:
        (run,) = mlflow.search_runs(experiment_names=[experiment], output_format="list")
        id: str = run.info.run_id
        return id

    told: Told = {"version": transformers.__version__}
    group = f"hf-{transformers.__version__[0]}"
    tags = json.dumps({"release": "2.0"})
    with environment(MLFLOW_EXPERIMENT_NAME=f"{group}-plain", MLFLOW_TAGS=tags):
        plain = trainer("plain")
        plain.train()
    told["plain"] = {"run": ended(f"{group}-plain"), "losses": losses(plain)}
    with environment(MLFLOW_RUN_ID=told["plain"]["run"]):
        resumed = trainer("plain")
        resumed.train(resume_from_checkpoint="plain/checkpoint-2")
    told["resumed"] = [one for one in losses(resumed) if one[0] > 2]
    with environment(MLFLOW_EXPERIMENT_NAME=f"{group}-files", HF_MLFLOW_LOG_ARTIFACTS="1"):
        kept = trainer("files")
        kept.train()
    run = ended(f"{group}-files")
    told["files"] = {"run": run, "losses": losses(kept)}
    models = mlflow.search_logged_models(
        [mlflow.get_experiment_by_name(f"{group}-files").experiment_id], output_format="list"
    )
    told["files"]["models"] = sorted([one.model_id, one.name] for one in models)
    (last,) = [one for one in models if one.name == "checkpoint-4"]
    folder = Path(mlflow.artifacts.download_artifacts(last.model_uri))
    loaded = BertForSequenceClassification.from_pretrained(folder / "artifacts" / "checkpoint-4")
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in kept.model.state_dict().items())
    assert mlflow.pyfunc.load_model(last.model_uri).metadata.model_id == last.model_id
    mlflow.set_experiment(f"{group}-nested")
    with mlflow.start_run(run_name="outer") as outer, environment(MLFLOW_NESTED_RUN="TRUE"):
        nested = trainer("nested")
        nested.train()
        assert mlflow.active_run().info.run_id == outer.info.run_id
        mlflow.log_metric("done", 1.0)
    return {**told, "nested": {"outer": outer.info.run_id, "losses": losses(nested)}}


@part
def classical() -> Told:
    import xgboost
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    random = np.random.default_rng(0)
    x = random.normal(size=(80, 3))
    y = (x[:, 0] + random.normal(size=80) > 0).astype(int)

    mlflow.sklearn.autolog()
    mlflow.set_experiment("sklearn")
    with mlflow.start_run(run_name="logistic") as run:
        model = LogisticRegression(C=0.5).fit(x, y)
        score = model.score(x, y)
    told: Told = {"logistic": {"run": run.info.run_id, "accuracy": score}}
    loaded = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert (loaded.predict(x) == model.predict(x)).all()
    with mlflow.start_run(run_name="search") as run:
        grid = GridSearchCV(LogisticRegression(), {"C": [0.001, 0.05, 10.0]}, cv=2).fit(x, y)
    told["search"] = {
        "run": run.info.run_id,
        "best": grid.best_params_["C"],
        "best_score": grid.best_score_,
        "scores": dict(zip(map(str, grid.cv_results_["param_C"]), grid.cv_results_["mean_test_score"], strict=True)),
    }
    mlflow.sklearn.autolog(disable=True)

    mlflow.xgboost.autolog()
    mlflow.set_experiment("xgboost")
    seen: dict[str, Any] = {}
    with mlflow.start_run(run_name="trees") as run:
        data = xgboost.DMatrix(x, label=y)
        params = {"max_depth": 2, "eta": 0.3, "objective": "binary:logistic", "nthread": 1}
        trees = xgboost.train(params, data, 12, evals=[(data, "train")], evals_result=seen, verbose_eval=False)
    told["trees"] = {"run": run.info.run_id, "logloss": seen["train"]["logloss"], "importance": trees.get_score()}
    again = mlflow.xgboost.load_model(f"runs:/{run.info.run_id}/model")
    assert np.array_equal(again.predict(data), trees.predict(data))
    general = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert np.array_equal(general.predict(x), trees.predict(data))
    return told


@part
def system_metrics() -> Told:
    mlflow.set_experiment("machine")
    mlflow.set_system_metrics_sampling_interval(0.1)
    mlflow.set_system_metrics_samples_before_logging(1)
    client = MlflowClient()
    with mlflow.start_run(log_system_metrics=True) as run:
        mlflow.log_metric("loss", 0.5)
        for _ in range(600):
            if len(client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")) >= 3:
                break
            time.sleep(0.1)
    history = client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")
    return {"run": run.info.run_id, "cpu": [[one.step, one.value] for one in history]}


def main(name: str) -> None:
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(json.dumps(parts[name]()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

"""The steps from the head of the report to `experiment=best`, and variants of the latter, as overrides."""

# both on the features of _DEFAULT (260 pixels); later steps use other features
REFERENCE = "logistic regression"
REPORT = "the report's head"

_DEFAULT = ("model=efficientnet_lite2",)
_STANDARDISED = (*_DEFAULT, "head.standardize=true")
_WIDE = (
    *_STANDARDISED, "model.recipe.hidden=[1024]", "model.recipe.hidden_dropout=0.5", "data.batch_size=128",
    "trainer.max_epochs=30",
)  # fmt: skip
_AVERAGED = (*_WIDE, "callbacks=weight_average")
_WHOLE = (*_AVERAGED, "model.backbone.crop_mode=squash", "model.backbone.crop_pct=1.0")
_LARGE = (*_WHOLE, "model.backbone.image_size=352")
BEST = ("experiment=best",)
_LITE2 = "tf_efficientnet_lite2.in1k"

STEPS: dict[str, tuple[str, ...]] = {
    REFERENCE: _DEFAULT,
    REPORT: (*_DEFAULT, "+data.class_weights.scale={person: 0.5}"),
    # each includes all steps before it
    "standardised features": _STANDARDISED,
    "1024 hidden units, dropout on them": _WIDE,
    "average of the weights": _AVERAGED,
    "whole photograph": _WHOLE,
    "352 pixels": _LARGE,
    "experiment=best": BEST,
    # each is one change of the best settings
    "best without standardisation": (*BEST, "head.standardize=false"),
    "best without average": (*BEST, "callbacks=default"),
    "best at 260 pixels": (*BEST, "model.backbone.image_size=null"),
    "best without mirror images": (*BEST, "model.backbone.mirror=false"),
    "best with cosine schedule": (*BEST, "scheduler=cosine"),
    "best with asymmetric loss": (*BEST, "loss=asymmetric", "loss.gamma_neg=2", "loss.clip=0"),
    "best with label smoothing": (*BEST, "loss.label_smoothing=0.1"),
    "best with a linear head": (*BEST, "head=linear"),
    "best with residual attention": (*BEST, "head=csra"),
    "best with attention": (*BEST, "head=attention"),
    # several networks, or input sizes of one network, in parallel
    "best with lite0, lite1 and lite2": (*BEST, "model=ensemble"),
    "best with lite2 at 352 and 448 pixels": (
        *BEST,
        "model=ensemble",
        f"model.backbone.members=[{{name: {_LITE2}}},{{name: {_LITE2},image_size: 448}}]",
    ),
}

from .classifier import Classifier as Classifier
from .evaluating import evaluate_run as evaluate_run
from .listing import list_images as list_images

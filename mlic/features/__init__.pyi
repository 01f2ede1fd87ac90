from .dataset import FeatureDataset as FeatureDataset
from .extraction import ExtractionResult as ExtractionResult
from .extraction import extract_features as extract_features
from .hashing import HashedFiles as HashedFiles
from .hashing import hash_files as hash_files
from .source import CachedFeatures as CachedFeatures
from .store import FeatureStore as FeatureStore

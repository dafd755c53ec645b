"""From whatever a person has (arrays, files, pictures, loaders, readers) to a stream of checked batches."""

from quantlab.data.batches import Batches, batches
from quantlab.data.images import ImageOptions, ImagePipeline, image_pipeline
from quantlab.data.signature import InputSpec, Signature

__all__ = ["Batches", "ImageOptions", "ImagePipeline", "InputSpec", "Signature", "batches", "image_pipeline"]

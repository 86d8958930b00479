from keras_mimo.export.inference_model import inference_model

__all__ = ["inference_model"]

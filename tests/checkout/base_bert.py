from config import BertConfig
from torch import nn
from utils import download, get_parameter_dtype


class BertPreTrainedModel(nn.Module):
    config_class = BertConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.name_or_path = config.name_or_path

    def init_weights(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.config.initializer_range)

    @property
    def dtype(self):
        return get_parameter_dtype(self)

    @classmethod
    def from_pretrained(cls, name):
        return download(name)

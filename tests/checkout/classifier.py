from bert import BertModel
from torch import nn


class BertSentimentClassifier(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased")
        for param in self.bert.parameters():
            param.requires_grad = config.option == "finetune"
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.output = nn.Linear(768, config.num_labels)

    def forward(self, input_ids, attention_mask):
        pooled = self.bert(input_ids, attention_mask)["pooler_output"]
        return self.output(self.dropout(pooled))

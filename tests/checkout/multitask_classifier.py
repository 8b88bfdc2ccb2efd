import torch
from bert import BertModel
from torch import nn


class MultitaskBERT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased")
        for param in self.bert.parameters():
            param.requires_grad = config.fine_tune_mode == "full-model"
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.sentiment = nn.Linear(config.hidden_size, len(config.num_labels))
        self.paraphrase = nn.Linear(2 * config.hidden_size, 1)
        self.similarity = nn.CosineSimilarity()

    def forward(self, input_ids, attention_mask):
        return self.bert(input_ids, attention_mask)["pooler_output"]

    def predict_sentiment(self, input_ids, attention_mask):
        return self.sentiment(self.dropout(self(input_ids, attention_mask)))

    def predict_paraphrase(self, input_ids_1, attention_mask_1, input_ids_2, attention_mask_2):
        first, second = self(input_ids_1, attention_mask_1), self(input_ids_2, attention_mask_2)
        return self.paraphrase(self.dropout(torch.cat([first, second], dim=-1)))

    def predict_similarity(self, input_ids_1, attention_mask_1, input_ids_2, attention_mask_2):
        first, second = self(input_ids_1, attention_mask_1), self(input_ids_2, attention_mask_2)
        return 5 * self.similarity(first, second)

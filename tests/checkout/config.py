class BertConfig:
    name_or_path = ""

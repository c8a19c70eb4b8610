"""A classifier of languages, trained here on the translations that Django carries: sentences of 34 languages."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import defaultdict
from pathlib import Path

from packages import wheel
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

DJANGO = "Django==5.2"
DJANGO_SHA256 = "91ceed4e3a6db5aedced65e3c8f963118ea9ba753fc620831c77074e620e7d83"
LANGUAGES = (
    "ar bg cs da de el en es et fi fr he hi hr hu id it ja ko lt lv nb nl pl pt ro ru sk sl sq sv tr uk vi"
).split()
SHORTEST = 15  # characters of a sentence that is learned from
SEED = 20260101


def make(folder: Path) -> None:
    sentences = read_sentences(wheel(DJANGO, DJANGO_SHA256))
    texts = [text for language in LANGUAGES for text in sorted(sentences[language])]
    truth = [language for language in LANGUAGES for _ in sentences[language]]
    learned, tested, learned_truth, tested_truth = train_test_split(
        texts, truth, test_size=0.2, random_state=SEED, stratify=truth
    )
    model = train(learned, learned_truth)
    score = model.score(tested, tested_truth)
    print(f"language: {len(learned)} sentences learned, {score:.1%} of {len(tested)} others right")
    with warnings.catch_warnings():  # that letters may not convert well; a test compares them
        warnings.simplefilter("ignore")
        converted = convert_sklearn(
            model,
            name="language",
            initial_types=[("text", StringTensorType([None]))],
            options={"zipmap": False},
            target_opset={"": 17, "ai.onnx.ml": 3},
        )
    (folder / "model.onnx").write_bytes(converted.SerializeToString())
    (folder / "example.json").write_text('{"text": ["Where is the station?"]}\n')
    (folder / "languages.txt").write_text("\n".join(model.classes_) + "\n")
    expected = {"texts": tested[:200], "labels": model.predict(tested[:200]).tolist()}
    (folder / "expected.json").write_text(json.dumps(expected))


def train(texts: list[str], truth: list[str]) -> Pipeline:
    """Naive Bayes over the one to three letters that follow each other, as written and in small letters."""
    letters = TfidfVectorizer(
        analyzer="char",
        ngram_range=(1, 3),
        max_features=12000,
        sublinear_tf=True,
        lowercase=False,  # ONNX Runtime asks the system's locale for small letters, and a jail has none
    )
    model = make_pipeline(letters, MultinomialNB(alpha=0.02))
    return model.fit(texts + [text.lower() for text in texts], truth + truth)


def read_sentences(files: dict[str, bytes]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path, content in files.items():
        match = re.fullmatch(r"django/.*locale/(\w+)/LC_MESSAGES/django(js)?\.po", path)
        if match is None or match[1] not in LANGUAGES:
            continue
        for keyword, text in read_po(content.decode()):
            if keyword.startswith("msgstr"):
                found[match[1]].add(clean(text))
            elif keyword != "msgctxt":
                found["en"].add(clean(text))  # what is translated
    return {
        language: {text for text in texts if len(text) >= SHORTEST and "charset=" not in text}
        for language, texts in found.items()
    }


def read_po(content: str) -> list[tuple[str, str]]:
    """(keyword, text) of a gettext catalogue; a text may go on over several lines."""
    entries: list[tuple[str, str]] = []
    for line in content.splitlines():
        match = re.match(r'(msgid|msgid_plural|msgstr(?:\[\d+\])?|msgctxt)?\s*(".*")$', line)
        if match is None:
            continue
        text = ast.literal_eval(match[2])
        if match[1]:
            entries.append((match[1], text))
        else:
            entries[-1] = (entries[-1][0], entries[-1][1] + text)
    return entries


def clean(text: str) -> str:
    """Without placeholders and markup."""
    text = re.sub(r"%\([^)]*\)[a-z]|%[a-z]|\{[^}]*\}|<[^>]*>|&[a-z]+;", "", text)
    return re.sub(r"\s+", " ", text).strip()

"""Tables in the style of public sets: read as they are meant, or asked about, with settings that answer."""

import csv
import io
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from mlic.data import LabelTable, read_csv
from mlic.data.table import UNKNOWN
from mlic.errors import InputError

Read = Callable[..., LabelTable]


class Form(NamedTuple):
    """A table, the images in the folder, and what is read."""

    text: str | bytes
    images: str  # names, joined by blanks
    wanted: Mapping[str, str]  # class names of each image, joined by `|`; those that are unknown end with `?`
    answers: tuple[dict[str, Any], ...] = ()  # to each question that is asked in turn
    options: Mapping[str, Any] = {}  # given at once


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function (content of a table, images in the folder joined by blanks, options) -> table."""

    def read(text: str | bytes, images: str = "", **options: Any) -> LabelTable:
        for name in images.split():
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).touch()
        file = tmp_path / "labels.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_csv(file, tmp_path / "photos", **options)

    (tmp_path / "photos").mkdir()
    return read


def labels_of(table: LabelTable) -> dict[str, str]:
    """Return the labels as in `Form.wanted`."""
    marks = {1: "", UNKNOWN: "?"}
    return {
        name: "|".join(
            label + marks[value] for label, value in zip(table.classes, row, strict=True) if value in marks
        )
        for name, row in zip(table.file_names, table.labels.tolist(), strict=True)
    }


SETTING = re.compile(
    r"""'data\.reader\.[^']*'|"data\.reader\.[^"]*"|data\.reader\.\w+=(?:\[[^\]]*\]|''|[\w/-][\w/.-]*[\w/-]|\w)"""
)


def offered(message: str) -> dict[str, list[Any]]:
    """Return the values of the settings that a message names as they are typed in a shell."""
    found: dict[str, list[Any]] = {}
    for text in SETTING.findall(message):
        if "..." not in text:
            override = OverridesParser.create().parse_override(" ".join(shlex.split(text)))
            found.setdefault(override.key_or_group.removeprefix("data.reader."), []).append(override.value())
    return found


def numbered(labels: list[str]) -> str:
    return "name,tags\n" + "".join(f'{row},"{joined}"\n' for row, joined in enumerate(labels))


def as_read(labels: list[str]) -> dict[str, str]:
    return {f"{row}.jpg": "|".join(sorted(joined.split())) for row, joined in enumerate(labels)}


AB = {"a.jpg": "cat|dog", "b.jpg": ""}
ABC = {**AB, "c.jpg": "cat"}
JPG = "a.jpg b.jpg c.jpg"
NUMBERS = " ".join(f"{row}.jpg" for row in range(8))
PLANET = ["clear primary", "haze", "primary", "clear", "clear haze primary", "haze primary"]
TABLE = ["dining table", "cat", "cat dining table", "dog cat", "dog"]
FORMS: dict[str, Form] = {
    "columns of 0 and 1": Form("file_name,cat,dog\na.jpg,1,1.0\nb.jpg,0, 0\n", "", AB),
    "quotes, blank lines and a byte order mark": Form(
        '\ufefffile_name,labels\r\nb.jpg,"dog, small; cat"\r\n\r\n./sub//a.jpg,\r\n', "",
        {"b.jpg": "cat|dog, small", "sub/a.jpg": ""}, (), {"separator": ";"},
    ),
    "planet": Form(numbered(PLANET), NUMBERS, as_read(PLANET)),
    "protein atlas": Form(
        "Id,Target\na-1,16 0\nb-2,0\nc-3,16\nd-4,0 25 16\ne-5,25\n",
        " ".join(f"{name}_{colour}.png" for name in ("a-1", "b-2", "c-3", "d-4", "e-5") for colour in ("green", "red")),
        {f"{name}_green.png": labels for name, labels in
         {"a-1": "0|16", "b-2": "0", "c-3": "16", "d-4": "0|16|25", "e-5": "25"}.items()},
        ({"image_column": "Id", "extension": "_green.png"},),
    ),
    "movie posters": Form(
        "Id,Title,Genre,Action,Drama,War\ntt1,\"Kid, The\",\"['Action', 'War']\",1,0,1\ntt2,It,['War'],0,0,1\n",
        "tt1.jpg tt2.jpg", {"tt1.jpg": "Action|War", "tt2.jpg": "War"},
        ({"label_columns": ["Action", "Drama", "War"]},),
    ),
    "JSON lists": Form('image,x\na.jpg,"[""cat"", ""dog""]"\nb.jpg,[]\nc.jpg,"[""cat""]"\n', JPG, ABC),
    "Python lists": Form("image\tx\na.jpg\t['cat', 'dog']\nb.jpg\t[]\nc.jpg\t['cat']\n", JPG, ABC),
    "one row a label": Form(
        "image_id,class_name,class_id,x_min,rad_id\na,Mass,1,3.5,R1\n"
        "a,Effusion,2,1,R2\nb,No finding,14,,R1\nc,Mass,1,7,R9\n"
        "c,Effusion,2,4,R9\nc,Mass,1,7,R1\n", "a.png b.png c.png",
        {"a.png": "Effusion|Mass", "b.png": "", "c.png": "Effusion|Mass"}, ({"no_label": "No finding"},),
    ),
    "one row a verified label": Form(
        "ImageID,Source,LabelName,Confidence\na,v,cat,1\na,v,dog,0\nb,v,dog,1\n", JPG,
        {"a.jpg": "cat", "b.jpg": "cat?|dog"}
    ),
    "Excel": Form("Bild;Schlagwörter;Länge\nTür.jpg;grün|weiß;1,5\nb.jpg;weiß;2\n".encode("cp1252"), "Tür.jpg b.jpg",
                  {"Tür.jpg": "grün|weiß", "b.jpg": "weiß"}),
    "UTF-16": Form("name\ttags\na.jpg\tcat, dog\nb.jpg\t\nc.jpg\tcat\n".encode("utf-16"), JPG, ABC,
                   ({"separator": ","},)),
    "an index column": Form(",image,cat,dog\n0,a.jpg,1,1\n1,b.jpg,0,0\n", JPG, AB),
    "bits in a list": Form('image,label\na.jpg,"[1, 1]"\nb.jpg,"[0, 0]"\n', JPG, AB, (), {"classes": ["cat", "dog"]}),
    "paths of Windows": Form("path;tags\nC:\\x\\s\\a.jpg;cat|dog\nC:\\x\\s\\b.jpg;\n", "s/a.jpg s/b.jpg",
                             {"s/a.jpg": "cat|dog", "s/b.jpg": ""}),
    "true and false": Form("name,cat,dog,taken\na.jpg,TRUE,True,5/1/20\nb.jpg,FALSE,False,5/2/20\n", JPG, AB),
    "1 and -1 below a count": Form("2\ncat dog \na.jpg  1  1\nb.jpg -1 -1\n", JPG, AB),
    "blank beside 0 and 1": Form("name,cat,dog\na.jpg,1,1\nb.jpg,0,\n", JPG, {"a.jpg": "cat|dog", "b.jpg": "dog?"},
                                 ({"unknown": {"blank": "ignore"}},)),
    "a class named NA": Form("name,labels\n007,NA|cat\n008,cat\n", "007.jpg 008.jpg",
                             {"007.jpg": "NA|cat", "008.jpg": "cat"}),
    "dining tables": Form(numbered(TABLE), NUMBERS, as_read(TABLE), ({"separator": " "},)),
    "is_valid": Form("name,cat,is_valid\na.jpg,1,0\n", JPG, {"a.jpg": "cat"}, ({"ignore_columns": ["is_valid"]},)),
    "text that repeats beside columns of 0 and 1": Form(
        "name,species,blurred,night,rain\na.jpg,cat,1,0,0\nb.jpg,cat,0,1,0\nc.jpg,dog,0,0,1\n", JPG,
        {"a.jpg": "blurred", "b.jpg": "night", "c.jpg": "rain"}, ({"ignore_columns": ["species"]},),
    ),
    "one row a label that is present or not": Form(
        "name,label,present\na.jpg,cat,1\na.jpg,dog,0\nb.jpg,dog,1\n", JPG, {"a.jpg": "cat", "b.jpg": "cat?|dog"},
        ({"label_columns": ["label", "present"]},),
    ),
    "one row per image and class": Form("image,class,label\na.jpg,cat,1\na.jpg,dog,1\nb.jpg,cat,0\nb.jpg,dog,0\n",
                                        JPG, AB, ({"label_columns": ["class", "label"]},)),
    "yes and no, asked about": Form("image,cat,dog\na.jpg,Yes,Yes\nb.jpg,No,No\n", JPG, AB,
                                    ({"unknown": {"no": "zero", "yes": "one"}},)),
    "a class that may be the labels": Form("image,cat,dog,target\na.jpg,1,1,1\nb.jpg,0,0,1\n", JPG, AB,
                                           ({"ignore_columns": ["target"]},)),
    "ages": Form("name,age\na.jpg,34\nb.jpg,50\n", JPG, {"a.jpg": "34", "b.jpg": "50"}, ({"label_columns": ["age"]},)),
    "0 and 1 in a column named label": Form("name,label\na.jpg,0\nb.jpg,1\n", JPG, {"a.jpg": "", "b.jpg": "label"},
                                            ({"classes": ["label"]},)),
    "two columns of names": Form("id,name,tags\nb,a.jpg,cat\na,b.jpg,dog\n", JPG, {"a.jpg": "cat", "b.jpg": "dog"},
                                 ({"image_column": "name"},)),
    "numbers that are names of files by chance": Form(
        "age,image,tags\n7,x.jpg,cat\n8,y.jpg,dog\n9,z.jpg,cat\n", "7.jpg",
        {"x.jpg": "cat", "y.jpg": "dog", "z.jpg": "cat"},
    ),
    "a comma in a name": Form(
        'name,tags\na.jpg,"dog, small; cat"\nb.jpg,cat\nc.jpg,"cat; dog, small"\nd.jpg,"dog, small"\n',
        "d.jpg " + JPG,
        {"a.jpg": "cat|dog, small", "b.jpg": "cat", "c.jpg": "cat|dog, small", "d.jpg": "dog, small"},
    ),
    "a blank column": Form("name,cat,dog,cow,notes\na.jpg,1,1,0,\nb.jpg,0,0,0,\n", JPG, AB,
                           ({"ignore_columns": ["notes"]},)),
    "a column of 0 and 1 apart": Form("name,checked,by,cat,cow,dog\na.jpg,1,me,1,0,1\nb.jpg,1,you,0,0,0\n", JPG, AB,
                                      ({"ignore_columns": ["checked"]},)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_read_or_asked_about_and_each_answer_is_offered(name: str, read: Read):
    form, options = FORMS[name], dict(FORMS[name].options)
    for answer in form.answers:
        with pytest.raises(InputError) as question:
            read(form.text, form.images, **options)
        choices = offered(str(question.value))
        assert all(value in choices.get(key, ()) for key, value in answer.items()), str(question.value)
        options |= answer
    assert labels_of(read(form.text, form.images, **options)) == form.wanted


def test_no_folder_outside_that_of_the_images_is_listed(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    listed: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: [listed.append(Path(folder)), scandir(folder)][1])
    with pytest.raises(InputError, match="leaves the image folder"):
        read("file_name,labels\n/etc/passwd,cat\n../labels.csv,dog\nC:\\x,cat\n", "a.jpg")
    photos = (tmp_path / "photos").resolve()
    assert listed and all(folder.resolve().is_relative_to(photos) for folder in listed)


def test_rows_of_one_image_agree_in_columns_that_decide_its_part(read: Read):
    text = "image,label,patient,note\na.jpg,cat,p1,x\na.jpg,dog,p1,y\nb.jpg,cat,p2,z\n"
    table = read(text, JPG, other_columns=["patient", "absent"])
    assert labels_of(table) == {"a.jpg": "cat|dog", "b.jpg": "cat"}
    assert table.columns["patient"].tolist() == ["p1", "p2"]
    with pytest.raises(InputError, match="values of the column 'note' of"):
        read(text, JPG, other_columns=["note"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,cat|dog\nb,cat\n", "expected a header, but 'a' is an image"),
        ("a.jpg,cat|dog\nb.jpg,cat\n", "expected the names of the columns"),
        ("name,labels\na.jpg,cat, dog\n", "line 2: 3 fields, but the header has 2"),
        ("3\ncat dog\na.jpg 1 0\n", "its first line is 3, but 1 rows follow"),
        ("name;a,b\na;1,0\nb;0,1\n", "divide all lines into equally many cells"),
        ("name,labels\na.jpg,кошка\n".encode("cp1251"), "not UTF-8 text"),
        ("name,class,present\na.jpg,cat,yes\na.jpg,dog,no\nb.jpg,cat,no\nb.jpg,dog,no\n", "[class,COLUMN]"),
        ("name,cat,dog\na.jpg,1,0\nb.jpg,0,0\nc.jpg,1,1\nTotal,2,3\n", "line 5: column 'cat' is '2'"),
        ("name,labels\na.jpg,cat:0.9|dog:0.1\nb.jpg,dog:0.7\n", "look like a class with a value"),
        ("name,cat,is_valid\na.jpg,1,0\n", "data.split.column=is_valid if it gives the parts"),
        ('{"images": []}', "JSON or XML, not a table"),
        ("name,tags\nd,cat\ne,dog\n", "have names such as 'a.jpg'"),
        ("name,labels\na.jpg,['cat' 'dog']\n", "not a JSON or Python list"),
        ("name,tags,confidence\na.jpg,cat,.5\n", "is not only 0 and 1"),
        ("name,cat,dog\na.jpg,1,0\na.jpg,0,1\n", "List each image once"),
        (
            "name,labels\na.jpg,cat\na.jpg,dog\nb.jpg,cat\nc.jpg,cat\nd.jpg,cat\ne.jpg,\nf.jpg,\n",
            "data.reader.rows=label",
        ),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(text: str | bytes, message: str, read: Read):
    with pytest.raises(InputError, match=re.escape(message)):
        read(text, JPG)


def test_the_folder_of_the_images_is_named_if_it_is_below_the_given_one(read: Read, tmp_path: Path):
    with pytest.raises(InputError, match=f"data.reader.extension=.jpg data.images={tmp_path}/photos/train"):
        read("name,tags\na,cat\nb,dog\n", "train/a.jpg train/b.jpg")


def test_a_spreadsheet_is_read_or_its_package_named(tmp_path: Path):
    rows = [["007", True, 1], ["b", False, 0]]
    pd.DataFrame(rows, columns=["name", "cat", "dog"]).to_excel(tmp_path / "labels.xlsx", index=False)
    for name in ("007.jpg", "b.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="in another form"):
        read_csv(tmp_path / "labels.xlsx", tmp_path)
    table = read_csv(tmp_path / "labels.xlsx", tmp_path, label_columns=["cat", "dog"])
    assert labels_of(table) == {"007.jpg": "cat|dog", "b.jpg": ""}


NAMES = (
    "cat", "dog", "person", "dining table", "hot dog", "salt & pepper", "AC/DC", "NA", "007", "none", "True", "Tür",
    "dog, small", "x;y", "partly_cloudy", "red car", "red bus", "é", "1", "3.5", "a cat.", "[x]",
)  # fmt: skip
EXTRAS: dict[str, Callable[[int], str]] = {
    "is_valid": lambda row: str(row % 2),
    "patient": lambda row: f"p{row // 3}",
    "Age": lambda row: str(30 + row),
    "taken": lambda row: f"2020-01-{row % 3 + 1:02d}",
    "note": lambda row: f"a {'nice' if row % 2 else 'blurred'} one, row {row}",
    "": str,
}


class Written(NamedTuple):
    """A table as it is written, and the labels that are meant."""

    content: bytes
    wanted: dict[str, set[str]]


@st.composite
def tables(draw: st.DrawFn) -> Written:
    """Write random labels in a random form."""
    separator = draw(st.sampled_from(["|", ";", ", ", " ", " / "]))
    pool = [name for name in NAMES if (separator.strip() or ",") not in name]
    classes = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5, unique=True))
    images = draw(st.lists(st.sets(st.sampled_from(classes)), min_size=1, max_size=14))
    form = draw(st.sampled_from(["joined", "json", "python", "1/0", "True/False", "1/-1", "1.0/", "rows"]))
    name = draw(st.sampled_from(["{}.jpg", "{}", "C:\\x\\{}.jpg", "set/{}.jpg"]))
    key = draw(st.sampled_from(["labels", "Tags", "x"]))
    if key == "x":  # a column of 0 and 1 with any name is a class
        images = [labels - {"1", "True"} for labels in images]
    more = draw(st.sets(st.sampled_from([*EXTRAS]), max_size=3))
    rows: list[dict[str, str]] = []
    for number, labels in enumerate(images):
        row = {"image": name.format(number)}
        chosen = sorted(labels)
        extras = {column: EXTRAS[column](number) for column in more}
        joined = {"joined": separator.join(chosen), "json": json.dumps(chosen), "python": str(chosen)}
        if form in joined:
            rows.append({**row, key: joined[form], **extras})
        elif form == "rows":
            rows += [{**row, key: label, **extras} for label in chosen or [""]]
        else:
            signs = form.split("/")
            rows.append({**row, **{label: signs[label not in labels] for label in classes}, **extras})
    stream = io.StringIO()
    header = draw(st.permutations([*rows[0]]))
    writer = csv.DictWriter(stream, header, delimiter=draw(st.sampled_from(",;\t")))
    writer.writeheader()
    writer.writerows(rows)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    return Written(
        stream.getvalue().encode(encoding), {f"{n}.jpg": labels for n, labels in enumerate(images)}
    )


@settings(max_examples=150, deadline=None)
@given(written=tables())
def test_a_table_is_read_as_it_is_meant_or_asked_about(
    written: Written, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.getbasetemp() / "random"
    folder.mkdir(exist_ok=True)
    for file in {*folder.iterdir()} ^ {folder / name for name in written.wanted}:
        file.unlink() if file.exists() else file.touch()
    table = tmp_path_factory.getbasetemp() / "random.csv"
    table.write_bytes(written.content)
    try:
        read = labels_of(read_csv(table, folder))
    except InputError:
        return
    assert read == {name: "|".join(sorted(labels)) for name, labels in written.wanted.items()}

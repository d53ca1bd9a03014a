"""The words of a text, as they are compared: lower case, without endings, identifiers in one piece and in their parts."""

import re
from collections.abc import Iterator
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?(?:[_.@/-]?[^\W_]+)*")
PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
VOWEL = re.compile(r"[aeiouy]")

STOP_TEXT = """
a about after again all also am an and any are as at be because been before being but by can could did didnt do does doesnt
doing dont down during each few for from further get give go got had has have having he her here hers him his how i if im in
into is isnt it its itself just know let like ll make many may me might more most much must my myself no nor not now of off
on once one only or other our ours out over own please re s same say see shall she should so some such t take tell than that
the their theirs them then there these they this those through to too under until up us use ve very was wasnt we were what
when where which while who whom whose why will with would yes you your yours
"""
STOP = frozenset(STOP_TEXT.split())
ENDINGS = (
    ("ational", "ate"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("ization", "ize"),
    ("ations", "at"),
    ("ation", "at"),
    ("ments", "ment"),
    ("ities", "iti"),
    ("ness", ""),
    ("ably", "abl"),
    ("ibly", "ibl"),
    ("ally", "al"),
    ("ful", ""),
    ("ly", ""),
)
IRREGULAR_TEXT = """
ate:eat eaten:eat became:become began:begin begun:begin bought:buy broke:break broken:break brought:bring built:build
came:come caught:catch children:child chose:choose chosen:choose did:do done:do drawn:draw drew:draw driven:drive drove:drive
fed:feed feet:foot fell:fall fallen:fall felt:feel flew:fly flown:fly fought:fight found:find forgot:forget forgotten:forget
froze:freeze frozen:freeze gave:give given:give gone:go got:get grew:grow grown:grow heard:hear held:hold hidden:hide hid:hide
kept:keep knew:know known:know laid:lay led:lead left:leave lent:lend lost:lose made:make meant:mean men:man met:meet mice:mouse
paid:pay people:person ran:run rang:ring risen:rise rose:rise said:say sang:sing sat:sit saw:see seen:see sent:send
shown:show slept:sleep sold:sell spent:spend spoke:speak spoken:speak stole:steal stolen:steal stood:stand sung:sing swam:swim
taken:take taught:teach teeth:tooth threw:throw thought:think told:tell took:take tore:tear torn:tear understood:understand
went:go woke:wake women:woman won:win wore:wear worn:wear written:write wrote:write
"""
IRREGULAR: dict[str, str] = {pair.partition(":")[0]: pair.partition(":")[2] for pair in IRREGULAR_TEXT.split()}


@lru_cache(100_000)
def stem(word: str) -> str:
    """word: lower case. Two forms of one English word have, mostly, one stem; other languages and names are left alone."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return IRREGULAR.get(word, word)
    word = _singular(IRREGULAR.get(word, word))
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and VOWEL.search(base) and len(base) > 2:
            word = _restored(base)
            break
    for ending, other in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) > 3:
            word = word[: -len(ending)] + other
            break
    if len(word) > 4 and word[-1] == "e":
        word = word[:-1]
    if len(word) > 3 and word[-1] == "y" and word[-2] not in "aeiou":
        word = word[:-1] + "i"
    return word


def forms_of(term: str) -> tuple[str, ...]:
    """The irregular forms, and the regular one, of a stem: an index that does not know them has to be asked for each."""
    return tuple(FORMS.get(term, ()))


def _singular(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith("ies"):
        return word[:-3] + "i" if len(word) > 4 else word[:-1]
    if word[-1] == "s" and word[-2] not in "sui":
        return word[:-1]
    return word


def _restored(base: str) -> str:
    """What is left of a verb without its ending, as it is without one."""
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz":
        return base[:-1]
    return base


def words(text: str) -> Iterator[str]:
    """In lower case, as written. An identifier such as order_4711 or shop.example is one."""
    return (found[0] for found in WORD.finditer(text.lower()))


@lru_cache(50_000)
def terms_of(word: str) -> tuple[str, ...]:
    """What a written word is found by: its stem; of an identifier itself and its parts."""
    return tuple(term for term, _ in forms_in(word))


def forms_in(word: str) -> tuple[tuple[str, str], ...]:
    """The terms of a written word, each with how it is written there."""
    lowered = word.lower().replace("’", "'").removesuffix("'s")
    parts = PART.findall(word)
    if lowered.isalpha():
        is_camel = len(parts) > 1 and not word.islower() and not word.isupper()
        inner = [part.lower() for part in parts if len(part) > 2] if is_camel else []
        return ((stem(lowered), lowered), *((stem(part), part) for part in inner))
    inner = [part.lower() for part in parts]
    return ((lowered, lowered), *((stem(part), part) for part in inner if part != lowered))


def terms(text: str) -> list[str]:
    """Every term of a text, stop words left out."""
    return [term for word in WORD.findall(text) for term in _terms_asked_for(word)]


@lru_cache(50_000)
def _terms_asked_for(word: str) -> tuple[str, ...]:
    return tuple(term for term in terms_of(word) if term not in STOP)


def forget_words() -> None:
    """No written word is kept any more."""
    for kept in (stem, terms_of, _terms_asked_for):
        kept.cache_clear()


def _forms() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for form, base in IRREGULAR.items():
        found.setdefault(stem(base), [base]).append(form)
    return found


FORMS = _forms()

"""A process that edits one file of an agent as fast as it can, and says so whenever an edit was answered.

python files_script.py STATE NAME ROUNDS
"""

import sys

import longwatch

FILLING = 2_000  # bytes of a line, so that a write takes many pages


def line(name: str, number: int) -> str:
    return f"{name}-{number} " + chr(97 + number % 26) * FILLING


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    state, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with longwatch.open(state) as lw:
        files = lw.memory("seo").files
        say("ready")
        sys.stdin.readline()
        for number in range(rounds):
            command = {"command": "insert", "path": "/memories/shared.md", "insert_line": 0}
            answer = files.answer({**command, "insert_text": line(name, number)})
            assert not answer.declined, answer.text
            say(str(number))
            if number >= 20:  # so that it stays of one size
                old = line(name, number - 20) + "\n"
                answer = files.answer({"command": "str_replace", "path": "/memories/shared.md", "old_str": old})
                assert not answer.declined, answer.text


if __name__ == "__main__":
    main()

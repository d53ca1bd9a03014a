"""English words that stand for each other, and kinds with what is of them: who asks for a trip remembers a journey.

A short list of everyday and of work, on purpose: groups of near synonyms, and kinds whose members anyone would name. What is
not English is found by its own words only, as before.
"""

from longwatch.policy.words import stem

ALIKE_TEXT = """
job work career profession occupation employment
company business firm employer
boss manager supervisor
colleague coworker teammate
customer client user
meeting appointment
child kid son daughter baby
mother mom mum
father dad
parent mother father mom dad
wife husband spouse partner
sibling brother sister
grandmother grandma
grandfather grandpa
friend buddy pal
family relative
doctor physician
author writer
actor actress
teacher instructor tutor
school college university
teach lesson class course
study learn education
degree diploma graduate
movie film
picture photo photograph image
paint draw art
song music concert band
book novel
story tale
read book
hobby pastime
contest competition tournament
win victory champion
prize award trophy medal
exercise workout gym fitness
run jog race marathon
hike trek trail
trip travel journey vacation holiday visit tour
flight fly plane airline
luggage baggage bag suitcase
reservation booking
cancel cancellation
house home apartment flat
live reside
move relocate
town city village
country nation
street road
mountain peak summit
forest woods
sea ocean
beach coast shore
car automobile vehicle
shop store
buy purchase
order purchase
sell sale
gift present
price cost fee charge fare
pay payment
money cash fund
invoice bill
refund reimburse
clothes clothing outfit
meal dinner lunch breakfast
food meal dish
cook bake recipe
drink beverage
party celebration celebrate
wedding marry marriage
dog puppy
cat kitten
ill sick
hurt injure injury wound
tired exhausted
happy glad joy
sad unhappy upset
angry mad furious
afraid scared fear
worry anxious nervous stress
relax unwind calm
love enjoy
favorite favourite
hate dislike
wish hope dream
plan intend
want wish
help assist support aid
volunteer charity donate donation
church faith religion
begin start launch
stop quit end cease
finish complete
build construct
create produce
repair fix mend
change modify alter update edit
choose choice decide decision pick
find discover
leave depart departure
arrive arrival
talk speak chat discuss conversation
email mail message letter
phone telephone
speech talk presentation
idea inspiration
big large huge
fast quick rapid
slow slowly late delay latency
new recent
annual yearly
problem issue trouble difficulty
error fault failure bug exception
crash abort
delete remove
send ship deliver delivery
allow permit
refuse deny reject decline
approve accept approval
check verify test
search look
document file
folder directory
database db
repository repo
server host
deploy deployment release rollout
config configuration setting
password credential secret
limit quota cap
"""
KINDS_TEXT = """
instrument: guitar piano violin drum flute cello clarinet trumpet saxophone
sport: soccer football basketball tennis baseball hockey golf volleyball rugby cricket
pet: dog cat puppy kitten hamster rabbit parrot fish
animal: dog cat horse cow pig sheep rabbit bird fish snake bear lion
color: red blue green yellow purple orange pink black white brown
colour: red blue green yellow purple orange pink black white brown
season: spring summer autumn winter
weather: rain snow storm sun wind
fruit: apple banana orange grape strawberry
vegetable: carrot potato tomato onion
dessert: cake cookie pie pudding
drink: coffee tea water juice beer wine
vehicle: car truck bus bike motorcycle van
relative: mother father sister brother aunt uncle cousin grandmother grandfather
country: america canada mexico england france germany spain italy japan china india brazil australia
language: english spanish french german chinese japanese
"""


def _kindred() -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for line in ALIKE_TEXT.strip().splitlines():
        group = [stem(word) for word in line.split()]
        for term in group:
            found.setdefault(term, set()).update(group)
    for line in KINDS_TEXT.strip().splitlines():
        kind, _, members = line.partition(":")
        found.setdefault(stem(kind), set()).update(stem(word) for word in members.split())
    return {term: tuple(sorted(others - {term})) for term, others in found.items()}


KINDRED = _kindred()
"""By stem, the stems that may stand for it. A kind is asked for by its name, and its members are not asked for each other."""

"""English words that every tokenizer of a large model has as one token, when a space stands before them."""

TEXT = """
able about abs accept access action actions active actually add added addr address adoption adventure advice after again ago
agree alias alive all allow alone already also always am amazing an and animals annotation annotations another ans any
anything append application archive are arg args argument arguments around art as assert async at attr attribute attributes
audio auto available away awesome back bad balance base based basketball be beach beautiful beauty because become been
before being believe best bet better between big binary bit bits biz blast block blocks body bond book books bool both bound
break bring browser buf buffer build building built business busy but by bye byte bytes cache call callable callback called
caller calling calls camping can cannot canvas care career case catch category cause challenge challenges chance change
changed changes character characters charity chat check child chill chocolate chunk class classes clear client clock close
closed cmd co coconut code collection collections color colors come comfort coming command commands comment common community
compare compile complete compression confidence config connect connected connecting connection connections constructor
contains content contents context continue convert cooking cool copy could count counts courage court crazy cream create
created creating creative cs cur current currently customers cute cv dairy dance dancing data date day days db debug dec
decimal decode decoder def default defaults defined definitely del delete delicious deprecated description descriptor dest
details dict dictionary did didn diff difference different dir directory dispatch do doc does doesn doing don done down
dream dreams drive dt during each easy education effect either else empty en encode encoding end energy enjoy enough enter
entries entry enum env environment eq equal err error errors es escape especially even event events ever every everyone
everything exact example examples exc except exception exceptions exec exist exists exit exp expected experience explore
express expression ext extend extension extra extract factory failed false fam family fan fantasy far fashion favorite
favorites feel feeling few field fields file filename files fill filter final finally find finding finished first fix flag
flags fleet float flush fn follow following food for forget form format formatter forward found fraction frame free friday
friend friends friendship from full fun func function functions future game games gaming generate generator generic get gets
getting give given gives giving glad global globals go goal goals going good got great group groups grow growing growth
guess had hand handle handler happiness happy hard has hash have haven having he head header headers health heap hear help
helper helping helps her here hey hi high him home hope host hour how html http huge ice id idea ideas if ignore impact
implementation import importance important improve in include incredible index info information infrastructure init initial
inner input inspiration inspired instance instances instead int integer interesting interface internal into invalid io ip is
isn iso it item items iter iterable iterator its job join joined journey joy just keep keeps key keys keyword kids kind know
knowing known kw lambda last later learn learning least left len length let level lib life light like limit line lines link
list little lives living load loader local locale lock log long look looking looks lookup lost lot lots love loved loving
lower lt luck lucky machine made magic magical main make makes making many map mapping mark match matches matching matter
max may maybe md me mean means meet member members memo memories memory mental message met method methods might milk min
mind minute missing mix mod mode module modules moment moments money month more most move movie movies msg much music must
my name named names namespace nan nature need needed needs negative network networking never new news next nice night no
node non none normal not note nothing noticed now num number numbers obj object objects of off offer offset oh ok old on
once one ones online only op opcode open opening operation operator opt option optional options or order org origin original
os other others otherwise our out output outside over own pack package painting pair param parameter parameters params
parent parse parser part parts pass passed passion path paths pattern pay peace people per perfect pets photo pic picture
place places plan plans platform play playing plus point pop port pos position positive possible post potential power
powerful practice prec prefix present pretty print problem process program progress project projects property proto protocol
proud provided purpose push put putting py python queue quit quite quote raise raised raises random range raw re reach read
reader reading ready real really recent recently recipe record recursive reduce register registry regular relative relax
release remember reminder remove replace report request required res reserved reset resp response rest result results return
returned returns ride right rights road rock room root rough round routine run running safe said same save saw say screen
script search second seconds section see seeing seek seen select selector self send sense sent sep sequence series server
service session set setup sha shape share shared sharing she shelter short should show showing shows side sig sign signal
signature similar simple since single site size skills skip slots small so socket some someone something sometimes soon
sorry sort sorted sounds source space spec special specific split sports spot sr src st stack standard start started
starting starts stat state statement stats status stay step steps still stop store stories story str stream strength stress
strict string strings strip strong struct students studio stuff style sub success such summer super support supported
supporting supports sure sweet sys system table tag take taken takes taking talk talking tar target task tb team tell test
tests text th than thanks that the their them then there these they thing things think thinking this those though thought
thread threads through time timeout times title to together token tomorrow too took top total totally tough tournament
towards trace track training trans traverse tree tried trip true truly try trying tuple turn turtle two typ type types under
understand understanding unique unknown until up update updated url us usage use used user using usually utf val valid value
values var variable variables ve version versions very video view visit wait walk wanna want wanted warn was watch watching
way we week weekend well went were what when where whether which while who whole why width wild will win windows winning
with within without won word words work working works world worth would wow wrap wrapped wrapper write writing written ya
yeah year years yes yesterday yet yield yoga you your yourself zero zip
"""
COMMON = frozenset(TEXT.split())

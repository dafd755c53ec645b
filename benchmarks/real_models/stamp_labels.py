"""Which ImageNet class a photo stamp shows, decided by hand from the stamp's name and a look at the picture.

Numbers are indices into the 1,000 classes of ILSVRC 2012 in their usual order. A stamp has several when its name is
wider than any one class (a "frog" may be any of three frogs) or when ImageNet has two classes for one thing. Where
ImageNet has one class for an everyday kind, that class is taken (335 "fox squirrel" for a squirrel, 345 "ox" for
cattle). Drawings, and stamps that fit no class, are left out; none was left out because a model gets it wrong. The
table was written with the predictions of the float model at hand, as a check on the numbering: its top-1 here says how
many everyday objects it recognises, and is no estimate of its accuracy on ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

STAMP_CLASSES: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        name: frozenset(classes)
        for name, classes in {
            "animals/amphibians/frog": {30, 31, 32},  # bullfrog, tree frog, tailed frog
            "animals/amphibians/frog-1": {30, 31, 32},
            "animals/birds/chicken_profile": {7, 8},  # cock, hen
            "animals/birds/crowned_crane": {134},
            "animals/birds/drake": {97},
            "animals/birds/duck": {97},
            "animals/birds/gander": {99},
            "animals/birds/hen": {8},
            "animals/birds/magpie": {18},
            "animals/birds/ostrich": {9},
            "animals/birds/peacock": {84},
            "animals/birds/pelican": {144},
            "animals/birds/penguin": {145},
            "animals/birds/pink_flamingo": {130},
            "animals/birds/rainbow-lorikeet": {90},
            "animals/birds/rooster": {7},
            "animals/birds/tucan": {96},
            "animals/birds/vulture": {23},
            "animals/fish/clownfish": {393},
            "animals/fish/lionfish": {396},
            "animals/fish/lobster": {122, 123},  # American lobster, spiny lobster
            "animals/insects/Brown_slug": {114},
            "animals/insects/Woodlouse": {126},
            "animals/insects/fly": {308},
            "animals/insects/grasshopper": {311, 312},  # grasshopper, cricket
            "animals/insects/hoverfly": {308},
            "animals/insects/mantis": {315},
            "animals/lizards/iguana": {39},
            "animals/mammals/apes/chimp": {367},
            "animals/mammals/apes/gorilla": {366},
            "animals/mammals/aquatic/orca": {148},
            "animals/mammals/aquatic/otter": {360},
            "animals/mammals/aquatic/sea_lion": {150},
            "animals/mammals/badger": {362},
            "animals/mammals/bears/bear": {294, 295},  # brown bear, American black bear
            "animals/mammals/bears/european-bear": {294},
            "animals/mammals/bears/toys/edward_bear": {850},
            "animals/mammals/bovines/bison": {347},
            "animals/mammals/bovines/bull": {345},
            "animals/mammals/bovines/cow": {345},
            "animals/mammals/bovines/cow_white": {345},
            "animals/mammals/bovines/ram": {348},
            "animals/mammals/camel/dromedary": {354},
            "animals/mammals/cats/lion": {291},
            "animals/mammals/cats/lion-2": {291},
            "animals/mammals/cats/tiger": {292},
            "animals/mammals/cats/tiger_sumatran": {292},
            "animals/mammals/dogs/dingo": {273},
            "animals/mammals/dogs/fox": {277},
            "animals/mammals/echidna": {102},
            "animals/mammals/elephant": {101, 385, 386},  # tusker, Indian and African elephant
            "animals/mammals/equines/zebra": {340},
            "animals/mammals/ferret": {358, 359},  # polecat, black-footed ferret
            "animals/mammals/hippopotamus": {344},
            "animals/mammals/pig": {341},
            "animals/mammals/pig_golden": {341},
            "animals/mammals/pig_golden2": {341},
            "animals/mammals/rabbit_little": {330, 331, 332},  # wood rabbit, hare, Angora
            "animals/mammals/rodents/beaver": {337},
            "animals/mammals/rodents/marmot": {336},
            "animals/mammals/rodents/rabbit": {330, 331, 332},
            "animals/mammals/rodents/rabbit-2": {330, 331, 332},
            "animals/mammals/rodents/squirrel": {335},
            "animals/mammals/wildboar": {342},
            "animals/marsupials/koala": {105},
            "animals/marsupials/wombat": {106},
            "food/fruit/Strawberry2": {949},
            "food/fruit/apple_granny_smith": {948},
            "food/fruit/apple_green": {948},
            "food/fruit/banana": {954},
            "food/fruit/cherimoya": {956},
            "food/fruit/lemon": {951},
            "food/fruit/orange": {950},
            "food/fruit/orange_seville": {950},
            "food/fruit/pineapple": {953},
            "food/fruit/pomegranate": {957},
            "food/fruit/sliced_orange": {950},
            "food/fruit/strawberry": {949},
            "food/vegetables/broccoli": {937},
            "food/vegetables/corn": {987, 998},  # corn, ear
            "food/vegetables/mushroom": {947, 992},  # mushroom, agaric
            "food/vegetables/pepper": {945},
            "food/vegetables/yellowpepper": {945},
            "hobbies/binoculars": {447},
            "hobbies/camera_35mm": {759},
            "hobbies/music/brass/trumpet": {513},
            "hobbies/music/percussion/drum_tomtom_floor": {541},
            "hobbies/music/percussion/drumkit": {541},
            "hobbies/music/string/cello": {486},
            "hobbies/music/string/guitar2": {546},
            "hobbies/music/string/guitar_classical": {402},
            "hobbies/music/string/guitar_electric": {546},
            "hobbies/music/string/guitar_electric_bass": {546},
            "hobbies/music/string/violin": {889},
            "hobbies/music/wind/bassoon": {432},
            "household/dishes/mug": {504},
            "household/dishes/pitcher_small": {725},
            "household/dishes/teapot": {849},
            "household/garbagecan": {412},
            "household/toilet": {861},
            "household/tools/hammer": {587},
            "household/tools/paintbrush_large": {696},
            "household/tools/spade": {792},
            "household/wheelie_bin": {412},
            "medical/bandage_adhesive": {419},
            "medical/stethoscope": {823},
            "medical/syringe": {845},
            "military/paratrooper": {701},
            "military/vehicles/f22_raptor": {895},
            "plants/mushrooms/cep": {997},
            "plants/mushrooms/cep-1": {997},
            "plants/mushrooms/cep-2": {997},
            "seasonal/candle": {470},
            "sports/basketball": {430},
            "sports/soccer": {805},
            "sports/tennis_ball": {852},
            "sports/tennis_racket": {752},
            "town/uk_post_box": {637},
            "town/usps_mailbox": {637},
            "vehicles/auto/sportscar2": {511, 817},  # convertible, sports car
            "vehicles/auto/truck": {717},
            "vehicles/cycle/pink_tricycle": {870},
            "vehicles/emergency/firetruck": {555},
            "vehicles/flight/balloon360": {417},
            "vehicles/flight/planes/747": {404},
            "vehicles/garbagetruck": {569},
            "vehicles/race/indycar": {751},
        }.items()
    }
)

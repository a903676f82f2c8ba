"""Things that people ask about. "sofa|couch" is one thing with two names."""

from __future__ import annotations

from yourbert.corpus.bundled.draw import words

CITIES = words(
    """London|the capital of England, Berlin|the German capital, Madrid|the capital of Spain, Chicago,
    Boston, Cairo|the Egyptian capital, Vienna|the Austrian capital, Dublin|the capital of Ireland,
    Moscow|the Russian capital, Lisbon|the Portuguese capital""",
    """Paris|the French capital, Rome|the capital of Italy, Seattle, Sydney, Tokyo|the Japanese capital,
    Athens|the capital of Greece, Prague|the Czech capital""",
)
NATIONS = words(
    "Persia, France, Spain, Sweden, Prussia, Russia, Japan, Portugal, Hungary",
    "England, Egypt, Poland, Turkey, Austria, Italy, Denmark",
)
JOBS = words(
    """nurse|hospital nurse, teacher|schoolteacher, lawyer|attorney, chef|cook, pilot|flyer, designer|graphic
        artist, plumber""",
    """doctor|physician, accountant|bookkeeper, engineer, journalist|reporter, programmer|software developer,
        firefighter""",
)
SUBJECTS = words(
    """physics, chemistry, Spanish|the language of Spain, Java, biology, economics, drawing|sketching, chess,
        math|mathematics, singing""",
    "algebra, French, Python, philosophy, piano, history, geometry, German, photography, machine learning",
)
FORMATS = words("PDF, Excel, HTML, Markdown, EPUB, rich text", "Word, CSV, plain text, PowerPoint, XML")
FOODS = words(
    "butter, honey, yogurt|yoghurt, almond flour|ground almonds, milk, syrup, margarine",
    "sugar|sweetener, olive oil, cream, corn flour, applesauce",
)
TROUBLES = words(
    "stress, insomnia|sleeplessness, weight gain, back pain, anxiety, high blood pressure, bad temper",
    "migraine, depression, fatigue|tiredness, overeating, loneliness, poor sleep",
)
MONEY = words("dollars, euros, yen, Swiss francs, rupees", "pounds, pesos, Canadian dollars, roubles")
GOODS = words(
    "car|automobile, laptop|notebook, sofa|couch, guitar, camera, boat|small ship",
    "bicycle|bike, phone|smartphone, piano, house|home",
)
DISHES = words(
    "bread, ice cream|gelato, pancakes|crepes, pizza dough, soup|broth, cookies|biscuits",
    "pasta, cheese, brownies, lasagna, jam",
)
EXTRAS = words("sugar, yeast, eggs, butter, raisins, garlic", "milk, flour, cream, nuts, salt")
DEVICES = words("iPhone, laptop|notebook, television|TV, tablet|iPad", "Android phone, PC|computer, watch, car")
FEATURES = words(
    "notifications, dark mode, automatic updates, spell check, alerts|alarms",
    "location services, subtitles, voice control, roaming",
)
PRICES = words(
    "house prices, interest rates, rents|housing costs, wages|incomes, gas prices",
    "food prices, stock prices, salaries, taxes",
)
EXERCISE = words(
    "running|a run, yoga, swimming|a swim, weight training, an exam",
    "a workout, cycling|a bike ride, a flight, hiking",
)

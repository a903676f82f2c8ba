"""Frames of questions in which a swap, an antonym or a number changes the meaning.

A frame has the slots {a} and {b} (in a directed frame both are of the same kind and may be swapped), {n} (a number) and
{f} (one of a pair of opposites). `asks` has the questions of the frame, each in several wordings of the same meaning.
Wordings name {a} and {b} in either order, so that the order alone has no meaning. "rising|going up" are synonyms.
"""

from __future__ import annotations

from dataclasses import dataclass

from yourbert.corpus.bundled.draw import Words
from yourbert.corpus.bundled.names import (
    CITIES,
    DEVICES,
    DISHES,
    EXERCISE,
    EXTRAS,
    FEATURES,
    FOODS,
    FORMATS,
    GOODS,
    JOBS,
    MONEY,
    NATIONS,
    PRICES,
    SUBJECTS,
    TROUBLES,
)

Opposites = tuple[str, str]
NOTHING = Words(("",), ())
NO_OPPOSITES: Words[Opposites] = Words((("", ""),), ())


@dataclass(frozen=True)
class Frame:
    asks: tuple[tuple[str, ...], ...]
    a: Words[str]
    b: Words[str] = NOTHING
    opposites: Words[Opposites] = NO_OPPOSITES
    directed: bool = False
    counted: bool = False


FRAMES: tuple[Frame, ...] = (
    Frame(
        a=CITIES,
        b=CITIES,
        directed=True,
        asks=(
            (
                "What is the best way to travel from {a} to {b}?",
                "How can I get to {b} if I start in {a}?",
                "I live in {a}. How do I get to {b}?",
                "Leaving {a}, which route should I take to reach {b}?",
            ),
            (
                "How long does it take to go from {a} to {b}?",
                "How many hours should I plan for the trip to {b} from {a}?",
                "What is the travel time when I leave {a} for {b}?",
            ),
            (
                "How much does it cost to travel from {a} to {b}?",
                "What would I pay for a ticket to {b} if I start in {a}?",
                "Is it expensive to get from {a} to {b}?",
            ),
        ),
    ),
    Frame(
        a=FORMATS,
        b=FORMATS,
        directed=True,
        asks=(
            (
                "How do I convert {a} files to {b}?",
                "What is the easiest way to turn {a} into {b}?",
                "I have a(n) {a} document and need {b}. What do I do?",
                "How can I make a(n) {b} file from a(n) {a} file?",
            ),
            (
                "Is anything lost when {a} files are converted to {b}?",
                "Will making {b} from {a} hurt the quality?",
                "Do I lose any details if I turn {a} into {b}?",
            ),
        ),
    ),
    Frame(
        a=JOBS,
        b=JOBS,
        directed=True,
        asks=(
            (
                "How can a(n) {a} become a(n) {b}?",
                "What does it take to be a(n) {b} after years as a(n) {a}?",
                "I work as a(n) {a}. How do I start a career as a(n) {b}?",
                "What is the path from being a(n) {a} to being a(n) {b}?",
            ),
            (
                "Does a(n) {a} earn more than a(n) {b}?",
                "Is the pay of a(n) {b} lower than that of a(n) {a}?",
                "Do you make more money as a(n) {a} than as a(n) {b}?",
            ),
        ),
    ),
    Frame(
        a=SUBJECTS,
        b=SUBJECTS,
        directed=True,
        asks=(
            (
                "Why is {a} harder than {b}?",
                "What makes {a} more difficult to learn than {b}?",
                "Why do people find {b} easier than {a}?",
            ),
            (
                "Should I learn {a} before {b}?",
                "Is it a good idea to study {b} only after {a}?",
                "Does it make sense to start with {a} and go on to {b}?",
                "Is {a} the first thing to learn if I want to get to {b}?",
            ),
        ),
    ),
    Frame(
        a=FOODS,
        b=FOODS,
        directed=True,
        asks=(
            (
                "Can I use {a} instead of {b} in a cake?",
                "Is it okay to replace {b} with {a} when baking?",
                "Will {a} work as a substitute for {b} in a cake?",
                "I have no {b}. May I bake with {a}?",
            ),
            (
                "How much {a} do I need to replace {b} in a cake?",
                "If a recipe wants {b}, what amount of {a} do I take instead?",
                "In what ratio is {a} a substitute for {b} in baking?",
            ),
        ),
    ),
    Frame(
        a=TROUBLES,
        b=TROUBLES,
        directed=True,
        asks=(
            (
                "Does {a} cause {b}?",
                "Can {b} be the result of {a}?",
                "Is {a} one of the reasons for {b}?",
                "Could it be that {b} comes from {a}?",
            ),
            (
                "How do I stop {a} from leading to {b}?",
                "What can I do so that {a} does not turn into {b}?",
                "How can {b} be prevented when it is caused by {a}?",
            ),
        ),
    ),
    Frame(
        a=NATIONS,
        b=NATIONS,
        directed=True,
        asks=(
            (
                "Why did {a} attack {b}?",
                "What made {a} go to war against {b}?",
                "For what reason was {b} invaded by {a}?",
            ),
            (
                "When did {a} first invade {b}?",
                "In which year was {b} attacked by {a} for the first time?",
                "On what date did the first war of {a} against {b} begin?",
            ),
        ),
    ),
    Frame(
        a=MONEY,
        b=MONEY,
        directed=True,
        asks=(
            (
                "Where can I exchange {a} for {b}?",
                "Who will give me {b} for my {a}?",
                "I have {a} and need {b}. Where do I change them?",
            ),
            (
                "When is a good time to turn {a} into {b}?",
                "Should I buy {b} with my {a} now or wait?",
                "Is this the right moment to change {a} into {b}?",
            ),
        ),
    ),
    Frame(
        a=SUBJECTS,
        counted=True,
        asks=(
            (
                "How can I learn {a} in {n} months?",
                "What is a good way to become decent at {a} within {n} months?",
                "I have {n} months to get good at {a}. Where do I start?",
            ),
            (
                "Is it possible to learn {a} in {n} months?",
                "Are {n} months enough to become good at {a}?",
                "Can a beginner really master {a} in only {n} months?",
            ),
        ),
    ),
    Frame(
        a=GOODS,
        b=CITIES,
        opposites=Words((("buy|purchase", "sell"),), (("get|acquire", "sell"),)),
        asks=(
            (
                "What is the best place to {f} a used {a} in {b}?",
                "Where should I {f} a second-hand {a} in {b}?",
                "I live in {b} and want to {f} a(n) {a} that is not new. Where do I go?",
            ),
            (
                "What papers do I need to {f} a(n) {a} in {b}?",
                "Which documents does one need in {b} to {f} a(n) {a}?",
            ),
        ),
    ),
    Frame(
        a=DISHES,
        b=EXTRAS,
        opposites=Words((("with|using", "without"),), (("with extra", "with no|without any"),)),
        asks=(
            (
                "How do I make {a} {f} {b}?",
                "What is a simple recipe for {a} {f} {b}?",
                "I would like to cook {a} {f} {b}. How does it work?",
            ),
            (
                "Does it taste good to make {a} {f} {b}?",
                "Will people like {a} made {f} {b}?",
            ),
        ),
    ),
    Frame(
        a=FEATURES,
        b=DEVICES,
        opposites=Words(
            (("turn on|enable", "turn off|disable"), ("switch on|turn on", "switch off|turn off")),
            (("activate|switch on", "deactivate|switch off"),),
        ),
        asks=(
            (
                "How do I {f} {a} on my {b}?",
                "What is the way to {f} {a} on a(n) {b}?",
                'Where in the settings of my {b} can I {f} "{a}"?',
            ),
            (
                "Why can I not {f} {a} on my {b}?",
                "My {b} does not let me {f} {a}. What is the reason?",
            ),
        ),
    ),
    Frame(
        a=PRICES,
        b=CITIES,
        opposites=Words(
            (("rising|going up", "falling|going down"), ("so high", "so low")),
            (("climbing|increasing", "dropping|decreasing"),),
        ),
        asks=(
            (
                "Why are {a} {f} in {b}?",
                "What is the reason that {a} in {b} are {f}?",
                "Can anyone explain why, in {b}, {a} are {f}?",
            ),
            (
                "Is it good for {b} that {a} are {f}?",
                "Who wins in {b} when {a} are {f}?",
            ),
        ),
    ),
    Frame(
        a=EXERCISE,
        counted=True,
        opposites=Words((("before", "after"),), (("prior to", "after"),)),
        asks=(
            (
                "What should I eat {n} hours {f} {a}?",
                "Which food is best {n} hours {f} {a}?",
                "What is a good meal to have {n} hours {f} {a}?",
            ),
            (
                "Is it bad to drink coffee {n} hours {f} {a}?",
                "Does an espresso do any harm {n} hours {f} {a}?",
            ),
        ),
    ),
)

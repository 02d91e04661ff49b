"""What each check means and what follows from it, for people who see it for the first time."""

from dataclasses import dataclass

from curation.noise.findings import Finding


@dataclass(frozen=True)
class Explanation:
    """``title`` names what was found, in the plural; the others are sentences."""

    title: str
    meaning: str
    look: str
    action: str


def explain(finding: Finding) -> Explanation:
    """The explanation of the finding's check; a general one for a check that is new here."""
    known = EXPLANATIONS.get(finding.check)
    if known is not None:
        return known
    what = "images" if finding.subject == "image" else "identities"
    return Explanation(
        f"{finding.check.capitalize()} {what}",
        f"The check {finding.check!r} scored these {what}.",
        "",
        "The table of decisions says what is done.",
    )


EXPLANATIONS = {
    "misplaced": Explanation(
        "Images under the wrong identity",
        "The face resembles the rest of its identity too little to be the same person.",
        "Compare the large face with its own identity, then with the identity that it resembles "
        "most. Profiles, masks and children's photographs of the same person are the usual false "
        "alarms.",
        "The image is left out, or moved to the identity where it belongs.",
    ),
    "mixed": Explanation(
        "Identities that mix several people",
        "The images of one label fall into parts that resemble each other as strangers do.",
        "Each row is one part: is it another person, or the same one with glasses, at another age "
        "or in another light?",
        "Each further part becomes an identity of its own.",
    ),
    "divided": Explanation(
        "One person under several identities",
        "The centres of two identities are as near as those of one person's photographs.",
        "Are the two rows one person? Twins and siblings are the usual false alarms. Of two "
        "identities that look like each other, one is shown.",
        "The two identities are merged.",
    ),
    "duplicate": Explanation(
        "Duplicate images",
        "Two images of an identity are the same photograph, perhaps scaled, recoloured or "
        "compressed again.",
        "The same moment is a duplicate; two photographs of one session are not.",
        "The copy is left out, the other image is kept.",
    ),
    "unusable": Explanation(
        "Unusable images",
        "The embedding is short and far from everything: no face, or one that nobody would know.",
        "Could you tell who this is? Sharp faces in unusual poses are the usual false alarms.",
        "The image is left out.",
    ),
    "overlap": Explanation(
        "Identities that are in an evaluation set",
        "Somebody in the evaluation set looks like this identity: training on it would make the "
        "evaluation look better than it is.",
        "Is the evaluation image, on the left, the person in the row?",
        "The identity is left out with all its images.",
    ),
}

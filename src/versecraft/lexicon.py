"""The words and turns of phrase by which the kind detector hears what a line speaks of."""

from __future__ import annotations

from collections.abc import Mapping

LEXICON: Mapping[str, str] = {
    "verse": "poem poems poetry poetic poet verse verses stanza stanzas rhyme rhymes rhyming "
    "rhymed meter metre metrical iambic iambs trochee trochaic anapestic pentameter "
    "tetrameter trimeter syllable syllables syllabic enjambment enjambed caesura "
    "quatrain quatrains couplet couplets tercet tercets sestet octave sonnet sonnets "
    "haiku villanelle sestina limerick ballad pantoum ghazal ode elegy refrain volta "
    "line lines title scheme foot feet beat beats lineation triolet",
    "device": "imagery image images metaphor metaphors simile similes cliche cliché clichés "
    "clichéd alliteration assonance consonance personification symbolism diction tone "
    "mood rhythm cadence register voice speaker narrator persona theme themes "
    "atmosphere abstraction abstractions abstract concrete sensory sentimental "
    "sentimentality sound texture pacing form phrase phrasing",
    "task": "brief briefs draft drafts version versions revision revisions revised revise "
    "revising rewrite rewritten rework reworked edit edits edited feedback critique "
    "critiques request requested requirements prompt prompts instructions instruction "
    "task output response answer reply commentary explanation explain notes note "
    "count constraint constraints guidelines specified text generated generate write "
    "writing written wrote piece pieces attempt attempts submission assignment "
    "workshop editor publish published variant option options alternative changes "
    "change changed changing fix fixed removed replaced swapped trimmed tightened "
    "added cut kept shortened dropped deleted moved adjusted tweak tweaked final "
    "complete completed format",
    "explain": "captures capture capturing evokes evoke evoking conveys convey conveying "
    "reflects reflect reflecting uses using used explores explore exploring suggests "
    "suggest suggesting emphasizes emphasises highlights highlighting mirrors "
    "mirroring symbolizes symbolises represents representing creates creating echoes "
    "echoing builds shifts employs draws drawing aims aimed intended intends intend "
    "intention avoids avoid avoiding maintains maintaining ensures ensure follows "
    "following keeps adheres balances juxtaposes contrasts underscores grounds "
    "invites inviting describes describing depicts depicting refers means mean works "
    "reads implies establishes undercuts carries earns earned serves tells shows "
    "reminds moves begins opens closes ends returns repeats stands lands leans risks "
    "lacks needs",
    "judge": "effective effectively strong stronger strongest vivid vividly evocative powerful "
    "resonant resonates compelling nuanced subtle specific nicely beautifully "
    "successfully particularly overall clear weak weaker weakest better improved best "
    "lovely predictable generic vague flat convincing deliberate deliberately "
    "intentional consistent accurate original fresh interesting honest satisfying "
    "memorable approved approval score rating good great well right publishable "
    "impressive forced overused tired worn competent excellent solid successful",
    "offer": "hope hopefully let know feel free happy glad help helps helpful assist adjust "
    "prefer like would enjoy enjoyed please thanks thank sorry apologies apologize "
    "apologise unable cannot can't can could want wish wanted ask asked asking "
    "questions question share shared tell try tried trying welcome need ready happily "
    "gladly wait worries",
    "discourse": "here's here below above certainly sure okay ok course absolutely however "
    "additionally note finally overall rather instead since because also first second "
    "third lastly meanwhile therefore thus though although while whereas so well "
    "alright right understood got yes no yep great perfect hmm oh actually just maybe "
    "both each throughout entire whole everything ultimately simply truly essentially "
    "especially including such about",
    "people": "reader readers audience user users client author authors poet's writer student "
    "teacher human humans assistant model ai chatgpt claude gpt listeners grader "
    "reviewer judge",
    "abstract": "emotion emotions emotional sense feeling feelings contrast tension structure "
    "language perspective narrative meaning message concept idea ideas element "
    "elements effect reflection nostalgia longing journey resilience connection "
    "experience importance power beauty fragility impermanence memory loss grief hope "
    "nature human humanity life love time moment details detail depth complexity "
    "simplicity transition passage relationship opening ending beginning middle "
    "conclusion half section part parts word words repetition choice choices",
    "first": "i i'm i've i'll i'd me my mine myself we we've we'll we're our us",
    "second": "you you'd you're you've you'll your yours",
    "that": "this these that those it it's its one ones there's",
    "archaic": "thee thou thy thine ye hath doth o'er ne'er e'er 'tis 'twas hast dost wilt shalt "
    "art oft ere lo yon yonder alas thro' tho' whence thence nor upon",
    "english": "the and of to a in is that it with as for was on are be by at this not but his "
    "her from they she he or an which will all no so when what there were my me your "
    "you have has had we our their them would could if into than then out up who its "
    "i do did how more some like",
}
"""Words by what they speak of; the last list tells English from other languages."""

TONGUES = (
    "le la les des une est dans qui que pour pas sur avec ce cette il elle je vous nous mon sa ses "
    "au aux du et en c'est l'on j'ai d'un d'une qu'il plus ne se son",
    "der die das und ist nicht ein eine den dem des mit ich zu auf für von im es sich wie dich dir "
    "auch als noch nur wenn aber einen einem einer dieses diese sie wir ihr mein",
    "el los las una es en que y por con para del se no su lo como más este esta pero mi tu si al "
    "sus está hay muy yo un de",
    "il lo gli una che di è per con non del della nel si una sono come più questo questa ma mi le "
    "al alla dei delle e un ho se",
    "o os as uma em que e não com para do da no na dos das se por mais como este esta mas eu um é "
    "seu sua ao",
    "de het een van en in is niet dat op te zijn met voor er aan om ook deze dit als maar ik je",
    "og det er i på en et som for med ikke til av den jeg har de var men om vi att och är",
    "w i na z się nie to jest do że jak o po ale czy dla tak od co już tego ten ta",
    "et in est non ad cum sed qui quae quod ut nec per te me tu si ab ex hic haec sunt",
)
TURNS: Mapping[str, str] = {
    "made": r"\b(?:i|i've|we|we've)(?: have)?(?: also| just| only| mostly)? (?:kept|left|gave|"
    r"put|let|cut|"
    r"tried|went|stopped|ended|began|started|chose|used|wrote|made|took|moved|skipped|skip|dropped|"
    r"added|removed|swapped|changed|avoided|built|aimed|wanted|meant|held|set|turned|leaned|stuck|"
    r"didn't|did not|trimmed|tightened|replaced|borrowed|imagined|assumed|wasn't|guessed)\b",
    "asked": r"\b(?:you|they|he|she|user|client)(?:'d|'ve| had| have)?(?: also|"
    r" just)? (?:asked|said|told|"
    r"wanted|mentioned|described|gave|like|liked|listed|wrote|requested|need|needed|suggested|sent|"
    r"set|prefer|specified|named|have in mind|had in mind|want|meant|know best)\b",
    "your": r"\byour (?:own |last |next )?(?:note|notes|message|list|email|request|brief|"
    r"prompt|question|"
    r"feedback|facts|details|memory|memories|idea|words|theme|title|draft|comments?|suggestions?|"
    r"occasion|card|reading|audience|story|instructions?|version|poem|lines)\b",
    "this_one": r"\b(?:this|that|here)(?: one| time| version| piece| draft| round| take| attempt|"
    r" form| "
    r"ending| opening| line| stanza| poem| verse| section| part| image| text)\b",
    "here": r"^\W*(?:here|voici|hier|ecco)(?:'s| is| are| goes| you| we| it| comes| i|:)",
    "opener": r"^\W*(?:ok|okay|sure|right|well|oh|hm+|ah|alright|all right|great|fine|done|yes|"
    r"no|noted|"
    r"understood|thanks|thank you|sorry|apologies|my apologies|of course|certainly|"
    r"absolutely|perfect|"
    r"lovely|gladly|happy to|got it|fair|good|nice|hello|hi|dear|so|now|then|first|"
    r"also|finally|overall|"
    r"note|p\.s\.|ps|nb|n\.b\.|update|edit|answer|question|result)\b\s*[,.!—–:;-]",
    "offer": r"\b(?:shall i|should i|would you|do you want|want (?:me|it|a|another|one)|"
    r"can you|could you|"
    r"i can|i could|i'd|i would|i'll|i will|happy to|glad to|let me|let's|tell me|say the word|"
    r"just say|does (?:that|this|it)|is (?:that|this|it) (?:too|what|the|ok)|how about|what about|"
    r"if you(?:'d| would| want| like| prefer| need)|you (?:may|might|can|could)|feel free)\b",
    "why": r"\b(?:because|since|so that|as|which|who) (?:you|it|she|he|the|that|they|i|was|is)\b",
    "on_purpose": r"\b(?:on purpose|deliberate(?:ly)?|intentional(?:ly)?|meant to|intended|"
    r"by design|"
    r"rather than|instead of|in place of|as (?:requested|asked|instructed|promised|"
    r"usual|you|agreed))\b",
    "parts": r"\b(?:first|second|third|last|final|opening|closing|middle|next|whole|entire|"
    r"other) (?:line|"
    r"lines|two|three|part|half|verse|verses|stanza|stanzas|section|word|words|image|couplet|draft|"
    r"version|attempt|try|poem|one|sentence|paragraph|quatrain)\b|\bthe (?:ending|"
    r"opening|middle|title|"
    r"turn|refrain|close|image|images|metaphor|rhythm|tone|rhymes?|line|lines|"
    r"repetition|speaker|reader|"
    r"poem|piece|form|break|breaks)\b",
    "does": r"\b(?:stands? for|stand in for|symbol(?:ises|izes)?|represents?|shows?|suggests?|"
    r"evokes?|"
    r"conveys?|captures?|mirrors?|echoes|reflects?|underscores?|highlights?|reminds? us|tells? us|"
    r"invites?|explores?|becomes? a|is really|is about|works? as|speaks? (?:of|to)|imitates?|"
    r"emphasi[sz]es?|contrasts?|leaves? (?:us|the|it)|lets? (?:us|the reader))\b",
    "more": r"\b(?:shorter|longer|darker|lighter|colder|warmer|sadder|softer|harder|simpler|"
    r"better|another"
    r"|alternative(?:ly)?|again|too (?:much|long|short|neat|sweet|close|easy)|more|less|fewer)\b",
    "count": r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten|twelve|fourteen|a few|"
    r"several) "
    r"(?:lines?|words?|syllables?|stanzas?|verses?|parts?|couplets?|sections?|versions?|drafts?|"
    r"options?|things?|changes?|poems?|rhymes?|beats?|breaths?)\b",
    "clipped": r"^\W*(?:kept|tried|went|pulled|built|left|took|cut|added|removed|fixed|changed|"
    r"moved|wrote|"
    r"written|based|inspired|adapted|translated|taken|set|made|going|keeping|trying|"
    r"working|writing|"
    r"starting|ending|using|with|per|for|from|after|on|about|in)\b[^,;]{3,}[.:!]?$",
    "order": r"^\W*(?:write|use|keep|avoid|make|try|read|do|don't|let|end|begin|start|cut|"
    r"change|add|remove|"
    r"replace|include|choose|stay|say|show|tell|think|note|notice|see|consider|"
    r"imagine|return|output|"
    r"respond|answer|give|delete|swap|name|find|repeat|pause|stop|click|share|call|post)\b",
    "bracketed": r"^[(\[{*_<].*[)\]}*_>]\W?$",
}
"""Turns of phrase in which texts and tasks are spoken of, whatever their words."""

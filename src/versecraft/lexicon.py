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
    "subject": r"^\W*(?:it|that|this|these|those|they|which|he|she|whose|both|none)(?:'s)? "
    r"(?:is|was|are|were|has|had|does|needed|needs|should|could|might|may|makes|made|gives|gave|sounds|feels|"
    r"felt|reads|works|scans|keeps|kept|can|wants|wanted|seemed|comes|came|stays|stayed|goes|went|"
    r"isn't|wasn't|doesn't|didn't|won't|ought|took|not|all|only|just)\b",
    "hedge": r"\b(?:i think|i suppose|i believe|i guess|i wonder|i assume|i hope|i trust|not sure|"
    r"probably|perhaps|maybe|a bit|a little|a touch|slightly|rather|quite|sort of|kind of|"
    r"at least|at most|more or less|or so|if (?:it|that|this|anything|need|needed|not|so))\b",
    "here_and_there": r"\b(?:above|below|up top|at the (?:top|end|start|bottom)|so far|to come|"
    r"to follow|next up|as follows|the rest|the lot|the whole thing|"
    r"that's (?:it|all|the|me|what|as)|"
    r"nothing (?:else|more|to)|the end|in the middle|halfway|from here|back to|as it is|"
    r"as is|in full|in one go|for now|this far)\b",
    "you_did": r"\b(?:you|they|she|he|client|boss)(?:'d|'ve| had| have)? \w{2,}ed\b",
    "i_did": r"^\W*(?:and |but |so |then )?(?:i|i've|i'd|we|we've)(?: have| had)? "
    r"(?:\w{2,}ed|\w+n't)\b",
    "shall_be": r"\b(?:i|we|it|that|this|you)(?:'d|'ll| would| could| can| should| may| might) "
    r"(?:rather|also|be|have|make|add|give|do|need|take|go|write|send|say|put|keep|cut|swap)\b",
    "bracketed": r"^[(\[{*_<].*[)\]}*_>]\W?$",
}
"""Turns of phrase in which texts and tasks are spoken of, whatever their words."""

TRIGGERS: Mapping[str, str] = {
    "made": "kept left gave put let cut tried went stopped ended began started chose used wrote "
    "made took moved skipped skip dropped added removed swapped changed avoided built aimed "
    "wanted meant held set turned leaned stuck didn't did trimmed tightened replaced borrowed "
    "imagined assumed wasn't guessed",
    "asked": "asked said told wanted mentioned described gave like liked listed wrote requested "
    "need needed suggested sent set prefer specified named have had want meant know",
    "your": "your",
    "this_one": "this that here",
    "offer": "i i'd i'll would shall should do want can could happy glad let let's tell say just "
    "does is how what if you feel",
    "why": "because since so as which who",
    "on_purpose": "purpose deliberate deliberately intentional intentionally meant intended design "
    "rather instead place as",
    "parts": "first second third last final opening closing middle next whole entire other the",
    "more": "shorter longer darker lighter colder warmer sadder softer harder simpler better "
    "another alternative alternatively again too more less fewer",
    "count": "line lines word words syllable syllables stanza stanzas verse verses part parts "
    "couplet couplets section sections version versions draft drafts option options thing things "
    "change changes poem poems rhyme rhymes beat beats breath breaths",
    "does": "stands stand symbolises symbolizes symbolise symbolize represents represent shows "
    "show suggests suggest evokes evoke conveys convey captures capture mirrors mirror echoes "
    "reflects reflect underscores underscore highlights highlight reminds remind tells tell "
    "invites invite explores explore becomes become is works work speaks speak imitates imitate "
    "emphasises emphasizes emphasise emphasize contrasts contrast leaves leave lets let",
    "here_and_there": "above below top end start bottom far come follow up follows rest lot thing "
    "that's nothing middle halfway here back is full go now",
    "hedge": "i not probably perhaps maybe a slightly rather quite sort kind at more or if",
    "you_did": "you they she he client boss you'd you've they'd they've she'd he'd",
    "shall_be": "i'd i'll we'd we'll it'd it'll that'd that'll this'll you'd you'll would could "
    "can should may might",
}
"""Words of which a turn has one: a line without them is not searched for it."""
FIRST_WORDS: Mapping[str, str] = {
    "here": "here here's voici hier ecco",
    "opener": "ok okay sure right well oh ah alright all great fine done yes no noted understood "
    "thanks thank sorry apologies my of certainly absolutely perfect lovely gladly happy got it "
    "fair good nice hello hi dear so now then first also finally overall note p ps nb n update "
    "edit answer question result hm hmm hmmm",
    "clipped": "kept tried went pulled built left took cut added removed fixed changed moved wrote "
    "written based inspired adapted translated taken set made going keeping trying working writing "
    "starting ending using with per for from after on about in",
    "order": "write use keep avoid make try read do don't let end begin start cut change add "
    "remove replace include choose stay say show tell think note notice see consider imagine "
    "return "
    "output respond answer give delete swap name find repeat pause stop click share call post",
    "subject": "it that this these those they which he she whose both none it's that's this's he's "
    "she's which's",
    "i_did": "and but so then i i've i'd we we've",
}
"""Words of which one begins a line that has the turn."""

FUNCTION = frozenset(
    " ".join((LEXICON["english"], LEXICON["first"], LEXICON["second"], LEXICON["that"])).split()
) | frozenset(
    "been being am does should can may might must shall let's here here's there than very too just "
    "only even still yet less most least much many any each both either again ever never always "
    "how why where who whom whose which because since while though until before after above below "
    "over under through down off back away around between without within against isn't wasn't "
    "don't didn't doesn't can't couldn't won't wouldn't shouldn't that's what's let yes ok please "
    "thanks sorry want wanted like need needed ask asked said say tell told think know try tried "
    "kept keep left leave made make gave give took take went go put got get used use".split()
)
"""Words that stand for themselves in the sketch of a line; others stand for their kind."""

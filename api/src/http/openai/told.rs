//! What a client was told of the answers so far, piece by piece, and what of the whole ones it still lacks.
//!
//! Pieces come from many vendors: what goes on to the client is OpenAI's form and nothing else, without the end of an answer,
//! which is told once the job has succeeded. What was told cannot be taken back, so the rest is known only where the whole answer
//! begins with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Answers as far as they were told.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<u64, Answer>);

#[derive(Debug, Default)]
struct Answer {
    content: String,
    refusal: String,
    reasoning: String,
    tools: BTreeMap<u64, Call>,
    /// Words whose likelihood was told.
    likelihoods: usize,
}

/// A call of a tool.
#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Told {
    /// Takes pieces in, and gives what of them goes on to the client: one entry of a chunk's `choices` for each piece that says
    /// something.
    pub fn hear(&mut self, pieces: &[Value]) -> Vec<Value> {
        let choice = |piece: &Value| {
            let index = piece["index"].as_u64().unwrap_or(0);
            let is_first = !self.0.contains_key(&index);
            let answer = self.0.entry(index).or_default();
            let mut delta = answer.hear(&piece["delta"]);
            let logprobs = answer.hear_likelihoods(&piece["logprobs"]);
            if is_first {
                begin(&mut delta);
            }
            (!delta.is_empty() || logprobs.is_some()).then(|| entry(index, delta, logprobs))
        };
        pieces.iter().filter_map(choice).collect()
    }

    /// Whether nothing was told that another attempt could contradict.
    pub fn is_silent(&self) -> bool {
        self.0.values().all(Answer::is_silent)
    }

    /// What is missing of the whole answers, as entries of a chunk's `choices`. `None`: they do not begin with what was told.
    pub fn rest(&self, whole: &[Value]) -> Option<Vec<Value>> {
        let is_known = |index: &u64| whole.iter().any(|choice| choice["index"].as_u64() == Some(*index));
        if self.0.iter().any(|(index, answer)| !is_known(index) && !answer.is_silent()) {
            return None;
        }
        let mut rest = Vec::new();
        for choice in whole {
            let index = choice["index"].as_u64().unwrap_or(0);
            let nothing = Answer::default();
            let (answer, is_first) = self.0.get(&index).map_or((&nothing, true), |answer| (answer, false));
            let mut delta = answer.rest(&choice["message"])?;
            let logprobs = answer.other_likelihoods(&choice["logprobs"]);
            if is_first {
                begin(&mut delta);
            }
            if !delta.is_empty() || logprobs.is_some() {
                rest.push(entry(index, delta, logprobs));
            }
        }
        Some(rest)
    }
}

/// An entry of a chunk's `choices` that ends nothing.
fn entry(index: u64, delta: Map<String, Value>, logprobs: Option<Value>) -> Value {
    json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null })
}

/// The first delta of an answer says whose it is, and has a content even where there is none.
fn begin(delta: &mut Map<String, Value>) {
    delta.insert("role".into(), "assistant".into());
    let nothing = if delta.contains_key("tool_calls") { Value::Null } else { "".into() };
    delta.entry("content").or_insert(nothing);
}

/// A text of a vendor's, as it is kept: without the one character that Postgres cannot.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?.replace('\0', "");
    (!text.is_empty()).then_some(text)
}

impl Answer {
    fn is_silent(&self) -> bool {
        self.content.is_empty()
            && self.refusal.is_empty()
            && self.reasoning.is_empty()
            && self.tools.is_empty()
            && self.likelihoods == 0
    }

    fn hear(&mut self, piece: &Value) -> Map<String, Value> {
        let mut delta = Map::new();
        // OpenRouter's word for what a model thinks, and DeepSeek's, which more clients know.
        let reasoning = text(&piece["reasoning"]).or_else(|| text(&piece["reasoning_content"]));
        for (name, known, said) in [
            ("reasoning_content", &mut self.reasoning, reasoning),
            ("content", &mut self.content, text(&piece["content"])),
            ("refusal", &mut self.refusal, text(&piece["refusal"])),
        ] {
            if let Some(said) = said {
                known.push_str(&said);
                delta.insert(name.into(), said.into());
            }
        }
        let tools = piece["tool_calls"].as_array().into_iter().flatten();
        let calls: Vec<_> =
            (0..).zip(tools).filter_map(|(place, tool)| self.hear_tool(place, tool)).collect();
        if !calls.is_empty() {
            delta.insert("tool_calls".into(), calls.into());
        }
        delta
    }

    fn hear_tool(&mut self, place: u64, piece: &Value) -> Option<Value> {
        let index = piece["index"].as_u64().unwrap_or(place);
        let call = self.tools.entry(index).or_default();
        let mut told = Map::new();
        // Told once, though some vendors repeat it with every piece: clients join what comes twice.
        if let Some(id) = text(&piece["id"]).filter(|_| call.id.is_empty()) {
            call.id.clone_from(&id);
            told.insert("id".into(), id.into());
            told.insert("type".into(), "function".into());
        }
        let mut function = Map::new();
        if let Some(name) = text(&piece["function"]["name"]).filter(|_| call.name.is_empty()) {
            call.name.clone_from(&name);
            function.insert("name".into(), name.into());
            function.insert("arguments".into(), "".into());
        }
        if let Some(arguments) = text(&piece["function"]["arguments"]) {
            call.arguments.push_str(&arguments);
            function.insert("arguments".into(), arguments.into());
        }
        if !function.is_empty() {
            told.insert("function".into(), function.into());
        }
        if told.is_empty() {
            return None;
        }
        told.insert("index".into(), index.into());
        Some(told.into())
    }

    fn hear_likelihoods(&mut self, logprobs: &Value) -> Option<Value> {
        let told = logprobs["content"].as_array().map_or(0, Vec::len);
        self.likelihoods += told;
        (told > 0).then(|| logprobs.clone())
    }

    /// What is missing of a whole message. `None`: it does not begin with what was told.
    fn rest(&self, message: &Value) -> Option<Map<String, Value>> {
        let mut delta = Map::new();
        // What was thought on the way to another answer does no harm.
        let whole = |name: &str| message[name].as_str().unwrap_or_default();
        let reasoning = whole("reasoning_content").strip_prefix(self.reasoning.as_str()).unwrap_or_default();
        let content = whole("content").strip_prefix(self.content.as_str())?;
        let refusal = whole("refusal").strip_prefix(self.refusal.as_str())?;
        for (name, rest) in [("reasoning_content", reasoning), ("content", content), ("refusal", refusal)] {
            if !rest.is_empty() {
                delta.insert(name.into(), rest.into());
            }
        }
        let calls = self.rest_of_tools(&message["tool_calls"])?;
        if !calls.is_empty() {
            delta.insert("tool_calls".into(), calls.into());
        }
        Some(delta)
    }

    /// The calls are told by number; whole ones stand in the order of their numbers.
    fn rest_of_tools(&self, whole: &Value) -> Option<Vec<Value>> {
        let whole = whole.as_array().map_or(&[][..], Vec::as_slice);
        if self.tools.len() > whole.len() {
            return None;
        }
        let mut told = self.tools.iter();
        let mut rest = Vec::new();
        for (place, call) in (0_u64..).zip(whole) {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            match told.next() {
                None => rest.push(json!({
                    "index": place, "id": call["id"], "type": "function",
                    "function": { "name": call["function"]["name"], "arguments": arguments },
                })),
                Some((index, known)) => {
                    let is_same = |told: &str, whole: &Value| told.is_empty() || whole == told;
                    if !is_same(&known.id, &call["id"]) || !is_same(&known.name, &call["function"]["name"]) {
                        return None;
                    }
                    let missing = arguments.strip_prefix(known.arguments.as_str())?;
                    if !missing.is_empty() {
                        rest.push(json!({ "index": index, "function": { "arguments": missing } }));
                    }
                }
            }
        }
        Some(rest)
    }

    fn other_likelihoods(&self, logprobs: &Value) -> Option<Value> {
        let missing = logprobs["content"].as_array()?.get(self.likelihoods..)?;
        (!missing.is_empty()).then(|| json!({ "content": missing, "refusal": null }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Value {
        json!({ "index": 0, "delta": { "content": words } })
    }

    fn whole(content: &str) -> Vec<Value> {
        vec![
            json!({ "index": 0, "message": { "role": "assistant", "content": content }, "finish_reason": "stop" }),
        ]
    }

    /// All that a client was told of the first answer.
    fn joined(entries: &[Value]) -> String {
        entries.iter().filter_map(|entry| entry["delta"]["content"].as_str()).collect()
    }

    #[test]
    fn pieces_go_on_in_openais_form_and_end_nothing() {
        let mut told = Told::default();
        let heard = told.hear(&[
            json!({ "index": 0, "delta": { "role": "assistant", "content": "", "refusal": null }, "finish_reason": null }),
            json!({ "index": 0, "delta": { "content": "жар\u{0}-" }, "native_finish_reason": null }),
            json!({ "index": 1, "delta": { "reasoning": "hm" } }),
            json!({ "index": 0, "delta": {}, "finish_reason": "stop" }),
            json!("nonsense"),
        ]);
        let expected = json!([
            { "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null },
            { "index": 0, "delta": { "content": "жар-" }, "logprobs": null, "finish_reason": null },
            { "index": 1, "delta": { "role": "assistant", "content": "", "reasoning_content": "hm" }, "logprobs": null, "finish_reason": null },
        ]);
        assert_eq!(Value::from(heard), expected);
    }

    #[test]
    fn the_rest_is_known_where_the_whole_begins_with_what_was_told() {
        let check = |pieces: &[&str], content: &str, expected: Option<&str>| {
            let mut told = Told::default();
            let pieces: Vec<_> = pieces.iter().map(|words| said(words)).collect();
            let heard = told.hear(&pieces);
            let rest = told.rest(&whole(content));
            assert_eq!(rest.as_deref().map(joined).as_deref(), expected, "{pieces:?} {content}");
            if let Some(rest) = rest {
                assert_eq!(joined(&heard) + &joined(&rest), content);
            }
        };
        check(&[], "all of it", Some("all of it"));
        check(&["all", " of"], "all of it", Some(" it"));
        check(&["all of it"], "all of it", Some(""));
        check(&["all of them"], "all of it", None);
        check(&["all of it, and more"], "all of it", None);
        check(&["", ""], "", Some(""));
    }

    #[test]
    fn an_answer_that_was_not_heard_of_is_told_whole_and_one_that_is_gone_is_no_rest() {
        let mut told = Told::default();
        told.hear(&[said("one")]);
        let mut two = whole("one");
        two.push(json!({ "index": 1, "message": { "role": "assistant", "content": "two" } }));
        let rest = told.rest(&two).expect("the rest");
        assert_eq!((rest.len(), &rest[0]["index"], joined(&rest)), (1, &json!(1), "two".to_owned()));
        assert_eq!(rest[0]["delta"]["role"], "assistant");
        told.hear(&[json!({ "index": 1, "delta": { "content": "two" } })]);
        assert!(told.rest(&whole("one")).is_none());
        assert!(!told.is_silent() && Told::default().is_silent());
    }

    #[test]
    fn calls_of_tools_are_named_once_and_finished() {
        let call = |index: u64, id: &str, name: &str, arguments: &str| json!({ "index": index, "id": id, "function": { "name": name, "arguments": arguments } });
        let piece = |calls: Value| json!({ "index": 0, "delta": { "tool_calls": calls } });
        let mut told = Told::default();
        let heard = told.hear(&[
            piece(json!([call(0, "a", "f", "")])),
            piece(json!([call(0, "a", "f", "{\"x\"")])),
            piece(json!([call(1, "b", "g", "{")])),
        ]);
        assert_eq!(heard[0]["delta"]["content"], Value::Null, "a call has no text beside it");
        let told_again = &heard[1]["delta"]["tool_calls"][0];
        assert_eq!(told_again, &json!({ "index": 0, "function": { "arguments": "{\"x\"" } }));
        let whole = |second: &str| {
            let call = |id: &str, name: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            let calls = json!([call("a", "f", "{\"x\":1}"), call(second, "g", "{}"), call("c", "h", "{}")]);
            [json!({ "index": 0, "message": { "content": null, "tool_calls": calls } })]
        };
        let rest = told.rest(&whole("b")).expect("the rest");
        let expected = json!([
            { "index": 0, "function": { "arguments": ":1}" } },
            { "index": 1, "function": { "arguments": "}" } },
            { "index": 2, "id": "c", "type": "function", "function": { "name": "h", "arguments": "{}" } },
        ]);
        assert_eq!(rest[0]["delta"]["tool_calls"], expected);
        assert!(told.rest(&whole("another")).is_none());
    }

    #[test]
    fn likelihoods_are_told_once() {
        let likely = |words: &[&str]| json!({ "content": words.iter().map(|word| json!({ "token": word })).collect::<Vec<_>>(), "refusal": null });
        let mut told = Told::default();
        let mut piece = said("a ");
        piece["logprobs"] = likely(&["a "]);
        assert_eq!(told.hear(&[piece])[0]["logprobs"], likely(&["a "]));
        let mut all = whole("a fox");
        all[0]["logprobs"] = likely(&["a ", "fox"]);
        assert_eq!(told.rest(&all).expect("the rest")[0]["logprobs"], likely(&["fox"]));
    }
}

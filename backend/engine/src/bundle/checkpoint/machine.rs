//! The stack machine of a pickle: one opcode after the other, and nothing is called.

use std::collections::HashMap;

use super::node::{Id, Node, Object};

/// Most values in one pickle. A released checkpoint has some ten thousand; a node takes 32 bytes.
const MAX_NODES: usize = 8 << 20;

/// A pickle on the way.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Parsed<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// A machine before the first opcode.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The values, by their [`Id`].
    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// Runs one opcode; the value of the pickle after `STOP`.
    pub(super) fn step(&mut self) -> Parsed<Option<Id>> {
        let [opcode] = self.array()?;
        match opcode {
            b'.' => {
                let root = self.pop()?;
                return Ok(Some(root));
            }
            // Framing and protocol.
            0x80 => {
                let [protocol] = self.array()?;
                if protocol > 5 {
                    return Err(format!("protocol {protocol} is newer than 5"));
                }
            }
            0x95 => {
                self.take(8)?;
            }
            // Constants and numbers.
            b'N' => self.push(Node::Opaque)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Node::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))?;
            }
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.length4()?;
                self.long(length)?;
            }
            b'I' => {
                let node = match self.line()? {
                    b"00" => Node::Bool(false),
                    b"01" => Node::Bool(true),
                    digits => decimal(digits)?,
                };
                self.push(node)?;
            }
            b'L' => {
                let line = self.line()?;
                let node = decimal(line.strip_suffix(b"L").unwrap_or(line))?;
                self.push(node)?;
            }
            b'F' => {
                self.line()?;
                self.push(Node::Float)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Node::Float)?;
            }
            // Text and bytes.
            0x8c => {
                let length = self.length1()?;
                self.text(length)?;
            }
            b'X' => {
                let length = self.length4()?;
                self.text(length)?;
            }
            0x8d => {
                let length = self.length8()?;
                self.text(length)?;
            }
            b'V' => {
                let text = String::from_utf8_lossy(self.line()?).into();
                self.push(Node::Text(text))?;
            }
            b'U' | b'C' => {
                let length = self.length1()?;
                self.binary(length)?;
            }
            b'T' | b'B' => {
                let length = self.length4()?;
                self.binary(length)?;
            }
            0x8e | 0x96 => {
                let length = self.length8()?;
                self.binary(length)?;
            }
            b'S' => {
                let line = self.line()?;
                let quoted = line.len() >= 2
                    && line.first() == line.last()
                    && matches!(line[0], b'\'' | b'"');
                if !quoted {
                    return Err("a string without quotes".into());
                }
                self.push(Node::Bytes(line[1..line.len() - 1].into()))?;
            }
            // An out-of-band buffer is not in the file; marking one read-only changes nothing.
            0x97 => self.push(Node::Opaque)?,
            0x98 => {}
            // Containers.
            b')' => self.push(Node::Tuple([].into()))?,
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let from = self.stack.len() - self.available(count)?;
                let items = self.stack.split_off(from);
                self.push(Node::Tuple(items.into()))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            b']' | 0x8f => self.push(Node::List(Vec::new()))?,
            b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'd' => {
                let items = pairs(&self.pop_mark()?)?;
                self.push(Node::Dict(items))?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[(key, value)])?;
            }
            b'u' => {
                let items = pairs(&self.pop_mark()?)?;
                self.set_items(&items)?;
            }
            // The stack.
            b'(' => self.marks.push(self.stack.len()),
            b'0' if self.stack.len() == self.floor() && !self.marks.is_empty() => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // The memo.
            b'p' => {
                let index = self.line_number()?;
                self.memoize(index)?;
            }
            b'q' => {
                let [index] = self.array()?;
                self.memoize(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.memoize(index.into())?;
            }
            0x94 => self.memoize(self.memo.len() as u64)?,
            b'g' => {
                let index = self.line_number()?;
                self.recall(index)?;
            }
            b'h' => {
                let [index] = self.array()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index.into())?;
            }
            // Names, and what Python would make of them.
            b'c' => {
                let global = self.global_lines()?;
                self.push(global)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (&self.nodes[module as usize], &self.nodes[name as usize]) {
                    (Node::Text(module), Node::Text(name)) => format!("{module}.{name}"),
                    _ => return Err("a global whose name is not text".into()),
                };
                self.push(Node::Global(global.into()))?;
            }
            0x82 => self.extension::<1>()?,
            0x83 => self.extension::<2>()?,
            0x84 => self.extension::<4>()?,
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.object(callable, arguments)?;
            }
            0x92 => {
                let _keywords = self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.object(callable, arguments)?;
            }
            b'i' => {
                let global = self.global_lines()?;
                let arguments = self.pop_mark()?;
                let callable = self.store(global)?;
                let arguments = self.store(Node::Tuple(arguments.into()))?;
                self.object(callable, arguments)?;
            }
            b'o' => {
                let mut arguments = self.pop_mark()?;
                if arguments.is_empty() {
                    return Err("an object without a class".into());
                }
                let callable = arguments.remove(0);
                let arguments = self.store(Node::Tuple(arguments.into()))?;
                self.object(callable, arguments)?;
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                if let Node::Object(object) = &mut self.nodes[target as usize] {
                    object.state = Some(state);
                }
            }
            b'P' => {
                let text = String::from_utf8_lossy(self.line()?).into();
                let id = self.store(Node::Text(text))?;
                self.push(Node::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            other => return Err(format!("{other:#04x} is not an opcode")),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest
            .get(..count)
            .ok_or_else(|| format!("{count} bytes are announced and {} are left", rest.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length1(&mut self) -> Parsed<usize> {
        self.array().map(|[length]| length.into())
    }

    fn length4(&mut self) -> Parsed<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> Parsed<usize> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| format!("{length} bytes are announced"))
    }

    /// The bytes up to the next line feed, which is taken too.
    fn line(&mut self) -> Parsed<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("a line without an end")?;
        self.at += end + 1;
        let line = &rest[..end];
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn line_number(&mut self) -> Parsed<u64> {
        let line = self.line()?;
        let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| "a memo index that is not a number".into())
    }

    fn global_lines(&mut self) -> Parsed<Node> {
        let module = String::from_utf8_lossy(self.line()?);
        let name = String::from_utf8_lossy(self.line()?);
        Ok(Node::Global(format!("{module}.{name}").into()))
    }

    fn store(&mut self, node: Node) -> Parsed<Id> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    fn push(&mut self, node: Node) -> Parsed<()> {
        let id = self.store(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Height of the stack below which the open mark forbids to reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn available(&self, count: usize) -> Parsed<usize> {
        if self.stack.len() - self.floor() < count {
            return Err("more is taken from the stack than lies on it".into());
        }
        Ok(count)
    }

    fn top(&self) -> Parsed<Id> {
        self.available(1)?;
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop(&mut self) -> Parsed<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Parsed<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a mark is closed that was not opened")?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: &[Id]) -> Parsed<()> {
        let target = self.top()?;
        // Items of an object that is no list are never asked for.
        if let Node::List(list) = &mut self.nodes[target as usize] {
            list.extend(items);
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[(Id, Id)]) -> Parsed<()> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Dict(dict) => dict.extend(items),
            Node::Object(object) => object.items.extend(items),
            _ => {}
        }
        Ok(())
    }

    fn object(&mut self, callable: Id, arguments: Id) -> Parsed<()> {
        self.push(Node::Object(Box::new(Object {
            callable,
            arguments,
            state: None,
            items: Vec::new(),
        })))
    }

    fn extension<const N: usize>(&mut self) -> Parsed<()> {
        self.take(N)?;
        self.push(Node::Opaque)
    }

    fn memoize(&mut self, index: u64) -> Parsed<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Parsed<()> {
        let id = self.memo.get(&index);
        let id = *id.ok_or_else(|| format!("memo entry {index} is used before it is set"))?;
        self.stack.push(id);
        Ok(())
    }

    fn text(&mut self, length: usize) -> Parsed<()> {
        let text = String::from_utf8_lossy(self.take(length)?).into();
        self.push(Node::Text(text))
    }

    fn binary(&mut self, length: usize) -> Parsed<()> {
        let bytes = self.take(length)?.into();
        self.push(Node::Bytes(bytes))
    }

    /// A little-endian integer in two's complement.
    fn long(&mut self, length: usize) -> Parsed<()> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        let node = if length <= 8 {
            wide[..length].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(wide))
        } else {
            Node::Opaque
        };
        self.push(node)
    }
}

fn decimal(digits: &[u8]) -> Parsed<Node> {
    let text = std::str::from_utf8(digits).map_err(|_| "an integer that is not text")?;
    let body = text.strip_prefix('-').unwrap_or(text);
    if body.is_empty() || !body.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{:?} is not an integer", text.chars().take(20).collect::<String>()));
    }
    // What does not fit is no size of a tensor.
    Ok(text.parse().map_or(Node::Opaque, Node::Int))
}

fn pairs(items: &[Id]) -> Parsed<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a key without a value".into());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

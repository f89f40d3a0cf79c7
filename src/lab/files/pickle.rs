//! Reads the pickles inside PyTorch's files, as data: nothing in them is ever executed.
//!
//! A pickle is a program for a small stack machine. Of its calls only those that rebuild tensors and
//! dictionaries mean something here; objects become dictionaries of their attributes, and whatever
//! else a checkpoint may hold (optimizers, arguments) is kept as opaque.

use std::collections::HashMap;

/// A position in the heap: values are shared, and change after they were remembered.
type Id = usize;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Opaque,
    Int(i64),
    Text(String),
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(String),
    Storage { kind: String, key: String },
    Tensor(View),
}

/// A tensor: a window on the record `data/KEY` of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `FloatStorage` and so on.
    pub kind: String,
    pub key: String,
    /// In elements, as are the strides.
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// A pickle, read.
#[derive(Debug)]
pub struct Pickle {
    heap: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// # Errors
    /// Says which instruction is not understood, or that the bytes end early.
    pub fn read(bytes: &[u8]) -> Result<Pickle, String> {
        let mut machine =
            Machine { bytes, at: 0, heap: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        while let Some(code) = machine.bytes.get(machine.at).copied() {
            machine.at += 1;
            if code == b'.' {
                let root = machine.pop()?;
                return Ok(Pickle { heap: machine.heap, root });
            }
            machine.step(code)?;
        }
        Err("it ends too early".to_string())
    }

    /// The tensors of a module, by the path of attributes that leads to each.
    pub fn attributes(&self) -> Vec<(String, View)> {
        let mut found = Vec::new();
        // As deep as modules are ever nested; a pickle may refer to itself.
        self.collect(self.root, "", 64, &mut found);
        found
    }

    fn collect(&self, id: Id, path: &str, depth: u32, found: &mut Vec<(String, View)>) {
        for (name, value) in self.entries(id) {
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            match &self.heap[value] {
                Value::Tensor(view) => found.push((path, view.clone())),
                Value::Dict(_) if depth > 0 => self.collect(value, &path, depth - 1, found),
                _ => {}
            }
        }
    }

    /// The tensors of a state dict: of the whole, or of the entry of a checkpoint that holds them.
    pub fn state_dict(&self) -> Vec<(String, View)> {
        let tensors = |id: Id| -> Vec<(String, View)> {
            let entries = self.entries(id);
            let tensors = entries.filter_map(|(name, value)| match &self.heap[value] {
                Value::Tensor(view) => Some((name.to_string(), view.clone())),
                _ => None,
            });
            tensors.collect()
        };
        let own = tensors(self.root);
        if !own.is_empty() {
            return own;
        }
        const USUAL: [&str; 6] = ["state_dict", "model_state_dict", "model", "net", "network", "params"];
        let usual = USUAL.iter().filter_map(|name| self.entries(self.root).find(|(own, _)| own == name));
        usual.map(|(_, id)| tensors(id)).find(|found| !found.is_empty()).unwrap_or_default()
    }

    fn entries(&self, id: Id) -> impl Iterator<Item = (&str, Id)> {
        let pairs = match &self.heap[id] {
            Value::Dict(pairs) => &pairs[..],
            _ => &[],
        };
        pairs.iter().filter_map(|&(key, value)| match &self.heap[key] {
            Value::Text(name) => Some((name.as_str(), value)),
            _ => None,
        })
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    heap: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    fn step(&mut self, code: u8) -> Result<(), String> {
        match code {
            0x80 => drop(self.take(1)?),                                  // PROTO
            0x95 => drop(self.take(8)?),                                  // FRAME
            b'(' => self.marks.push(self.stack.len()),                    // MARK
            b'N' | 0x88 | 0x89 => self.push(Value::Opaque),               // NONE, NEWTRUE, NEWFALSE
            b'G' => self.float()?,                                        // BINFLOAT
            b'K' => self.integer(1)?,                                     // BININT1
            b'M' => self.integer(2)?,                                     // BININT2
            b'J' => self.integer(4)?,                                     // BININT
            0x8a => self.long()?,                                         // LONG1
            b'X' => self.text(4)?,                                        // BINUNICODE
            0x8c | b'U' => self.text(1)?,                                 // SHORT_BINUNICODE, SHORT_BINSTRING
            b'T' => self.text(4)?,                                        // BINSTRING
            b'B' | b'C' => self.raw(if code == b'B' { 4 } else { 1 })?,   // BINBYTES, SHORT_BINBYTES
            b'}' => self.push(Value::Dict(Vec::new())),                   // EMPTY_DICT
            b']' | b')' | 0x8f => self.push(Value::Sequence(Vec::new())), // EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET
            b't' | b'l' => {
                let items = self.since_mark()?; // TUPLE, LIST
                self.push(Value::Sequence(items));
            }
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?, // TUPLE1, TUPLE2, TUPLE3
            b'q' => self.remember(1)?,                            // BINPUT
            b'r' => self.remember(4)?,                            // LONG_BINPUT
            0x94 => {
                let (top, next) = (self.top()?, self.memo.len() as u32); // MEMOIZE
                self.memo.insert(next, top);
            }
            b'h' => self.recall(1)?,   // BINGET
            b'j' => self.recall(4)?,   // LONG_BINGET
            b'0' => drop(self.pop()?), // POP
            b'a' => {
                let item = self.pop()?; // APPEND
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?; // APPENDS, ADDITEMS
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?); // SETITEM
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?; // SETITEMS
                self.set(items)?;
            }
            b'c' => self.global()?,       // GLOBAL
            0x93 => self.stack_global()?, // STACK_GLOBAL
            b'Q' => self.storage()?,      // BINPERSID
            b'R' | 0x81 => self.call()?,  // REDUCE, NEWOBJ
            b'b' => self.build()?,        // BUILD
            other => return Err(format!("it uses the instruction {other:#04x}, which state dicts do without")),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let taken = self.bytes.get(self.at..self.at.saturating_add(count)).ok_or("it ends too early")?;
        self.at += count;
        Ok(taken)
    }

    /// A little-endian whole number of at most eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn push(&mut self, value: Value) {
        self.heap.push(value);
        self.stack.push(self.heap.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| "its stack runs empty".to_string())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "its stack runs empty".to_string())
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or("it has no mark to go back to")?;
        Ok(self.stack.split_off(mark))
    }

    fn integer(&mut self, width: usize) -> Result<(), String> {
        let number = self.number(width)?;
        // Only the four-byte one is signed.
        self.push(Value::Int(if width == 4 { i64::from(number as u32 as i32) } else { number as i64 }));
        Ok(())
    }

    fn float(&mut self) -> Result<(), String> {
        self.take(8)?;
        self.push(Value::Opaque);
        Ok(())
    }

    fn long(&mut self) -> Result<(), String> {
        let width = self.number(1)? as usize;
        if width > 8 {
            self.take(width)?;
            self.push(Value::Opaque);
            return Ok(());
        }
        let number = self.number(width)?;
        let unused = 64 - 8 * width as u32;
        self.push(Value::Int(if width == 0 { 0 } else { (number << unused) as i64 >> unused }));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let length = self.number(width)? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn raw(&mut self, width: usize) -> Result<(), String> {
        let length = self.number(width)? as usize;
        self.take(length)?;
        self.push(Value::Opaque);
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let start = self.stack.len().checked_sub(count).ok_or("its stack runs empty")?;
        let items = self.stack.split_off(start);
        self.push(Value::Sequence(items));
        Ok(())
    }

    fn remember(&mut self, width: usize) -> Result<(), String> {
        let (name, top) = (self.number(width)? as u32, self.top()?);
        self.memo.insert(name, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), String> {
        let name = self.number(width)? as u32;
        let id = self.memo.get(&name).copied().ok_or("it recalls what it never stored")?;
        self.stack.push(id);
        Ok(())
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        if let Value::Sequence(own) = &mut self.heap[list] {
            own.extend(items);
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Result<(), String> {
        let dict = self.top()?;
        if let Value::Dict(own) = &mut self.heap[dict] {
            own.extend(items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("it ends too early")?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Value::Global(format!("{module}.{name}")));
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), String> {
        let (name, module) = (self.pop()?, self.pop()?);
        let value = match (&self.heap[module], &self.heap[name]) {
            (Value::Text(module), Value::Text(name)) => Value::Global(format!("{module}.{name}")),
            _ => Value::Opaque,
        };
        self.push(value);
        Ok(())
    }

    /// `('storage', type, key, device, elements)`
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let parts = self.sequence(id);
        let value = match parts.get(1..3).map(|pair| (&self.heap[pair[0]], &self.heap[pair[1]])) {
            Some((Value::Global(kind), Value::Text(key))) => {
                let kind = kind.rsplit('.').next().unwrap_or_default().to_string();
                Value::Storage { kind, key: key.clone() }
            }
            _ => Value::Opaque,
        };
        self.push(value);
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.sequence(arguments).to_vec();
        let value = match &self.heap[function] {
            Value::Global(name) if name == "torch._utils._rebuild_tensor_v2" => self.tensor(&arguments),
            Value::Global(name) if name.starts_with("torch._utils._rebuild_parameter") => {
                arguments.first().map_or(Value::Opaque, |&inner| self.heap[inner].clone())
            }
            // An object begins without attributes; `OrderedDict()` without entries.
            Value::Global(name) if name == "collections.OrderedDict" || name.starts_with("__torch__.") => {
                Value::Dict(Vec::new())
            }
            _ => Value::Opaque,
        };
        self.push(value);
        Ok(())
    }

    /// `(storage, offset, size, stride, ...)`
    fn tensor(&self, arguments: &[Id]) -> Value {
        let integers = |id: Id| -> Vec<i64> {
            let items = self.sequence(id).iter();
            items.filter_map(|&item| if let Value::Int(n) = self.heap[item] { Some(n) } else { None }).collect()
        };
        match arguments {
            [storage, offset, size, stride, ..] => match (&self.heap[*storage], &self.heap[*offset]) {
                (Value::Storage { kind, key }, Value::Int(offset)) => Value::Tensor(View {
                    kind: kind.clone(),
                    key: key.clone(),
                    offset: *offset,
                    size: integers(*size),
                    stride: integers(*stride),
                }),
                _ => Value::Opaque,
            },
            _ => Value::Opaque,
        }
    }

    /// An object takes over the attributes; a dictionary keeps its entries.
    fn build(&mut self) -> Result<(), String> {
        let (state, object) = (self.pop()?, self.top()?);
        if let (Value::Dict(attributes), Value::Dict(own)) = (self.heap[state].clone(), &mut self.heap[object])
            && own.is_empty()
        {
            *own = attributes;
        }
        Ok(())
    }

    fn sequence(&self, id: Id) -> &[Id] {
        match &self.heap[id] {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_bytes_reading_ends_with_an_answer_or_a_reason() {
        for bytes in [
            &b""[..],
            b".",
            b"\x80\x02}q\x00.",
            b"(((",
            b"X\xff\xff\xff\xff",
            b"h\x01.",
            b"cos\nsystem\n(X\x02\x00\x00\x00lstR.",
        ] {
            let read = Pickle::read(bytes);
            assert_eq!(read.is_ok(), bytes.ends_with(b"}q\x00.") || bytes.starts_with(b"cos"), "{bytes:?}: {read:?}");
            assert!(read.map_or(true, |pickle| pickle.state_dict().is_empty()));
        }
    }
}

//! The values of a pickle, as a list of nodes that refer to each other by index.

/// Index of a value in the list of its pickle.
pub(super) type Id = u32;

/// One value of a pickle.
#[derive(Debug)]
pub(super) enum Node {
    /// `None`, and whatever has no meaning here (huge integers, extension codes, out-of-band
    /// buffers).
    Opaque,
    Bool(bool),
    Int(i64),
    /// The bits of a float are never asked for.
    Float,
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Tuple(Box<[Id]>),
    /// A list or a set.
    List(Vec<Id>),
    /// Keys and values in the order of insertion; a later key wins.
    Dict(Vec<(Id, Id)>),
    /// `module.name`. Never looked up.
    Global(Box<str>),
    /// A persistent id: in a checkpoint, a storage.
    Persistent(Id),
    Object(Box<Object>),
}

/// What Python would have made by calling something. Nothing is called.
#[derive(Debug)]
pub(super) struct Object {
    /// Function or class.
    pub(super) callable: Id,
    /// Its arguments.
    pub(super) arguments: Id,
    /// What `BUILD` would hand to it.
    pub(super) state: Option<Id>,
    /// What `SETITEMS` would put into it.
    pub(super) items: Vec<(Id, Id)>,
}

//! Databases of the browser (IndexedDB), each with one store.

use std::{cell::RefCell, rc::Rc};

use idb::{Database, DatabaseEvent, Error, Factory, ObjectStore, ObjectStoreParams};

const VERSION: u32 = 1;

thread_local! {
    static OPEN: RefCell<Vec<(&'static str, Rc<Database>)>> = const { RefCell::new(Vec::new()) };
}

/// The database of a name, which is made with its store if there is none.
///
/// # Errors
/// When the browser denies it.
pub(super) async fn open(name: &'static str, store: &'static str) -> Result<Rc<Database>, Error> {
    let open = OPEN.with_borrow(|open| {
        open.iter().find(|(other, _)| *other == name).map(|(_, database)| database.clone())
    });
    if let Some(open) = open {
        return Ok(open);
    }
    let mut request = Factory::new()?.open(name, Some(VERSION))?;
    request.on_upgrade_needed(move |event| {
        if let Ok(database) = event.database() {
            // A database without the store refuses what is put there, and that is told.
            let _: Result<ObjectStore, Error> =
                database.create_object_store(store, ObjectStoreParams::new());
        }
    });
    let database = Rc::new(request.await?);
    OPEN.with_borrow_mut(|open| open.push((name, database.clone())));
    Ok(database)
}

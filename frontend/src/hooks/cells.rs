//! Pictures of grids, kept by the browser so that a grid goes on after a reload.

use idb::{Database, Error, TransactionMode};
use js_sys::Uint8Array;
use var_dd_protocol::GenerateRequest;
use wasm_bindgen::{JsCast, JsValue};

use super::database;

const DATABASE: &str = "var-dd.grid";

/// The store of pictures: their bytes by their request.
const CELLS: &str = "cells";

/// Pictures kept; with more, all make room.
const MOST: u32 = 600;

/// The picture of a request, if it is kept.
pub(crate) async fn kept(request: &GenerateRequest) -> Option<Vec<u8>> {
    read(&key(request)?).await.ok().flatten()
}

/// Keeps the picture of a request, where the browser can.
pub(crate) async fn keep(request: &GenerateRequest, bytes: &[u8]) {
    if let Some(key) = key(request) {
        // Without it, the picture is drawn again after a reload.
        let _ = write(&key, bytes).await;
    }
}

fn key(request: &GenerateRequest) -> Option<JsValue> {
    serde_json::to_string(request).ok().map(|text| JsValue::from_str(&text))
}

async fn read(key: &JsValue) -> Result<Option<Vec<u8>>, Error> {
    let database = database::open(DATABASE, CELLS).await?;
    let transaction = database.transaction(&[CELLS], TransactionMode::ReadOnly)?;
    let value = transaction.object_store(CELLS)?.get(key.clone())?.await?;
    let bytes = value.and_then(|value| value.dyn_into::<Uint8Array>().ok());
    Ok(bytes.map(|bytes| bytes.to_vec()))
}

async fn write(key: &JsValue, bytes: &[u8]) -> Result<(), Error> {
    let database = database::open(DATABASE, CELLS).await?;
    make_room(&database).await?;
    let transaction = database.transaction(&[CELLS], TransactionMode::ReadWrite)?;
    let store = transaction.object_store(CELLS)?;
    store.put(&Uint8Array::from(bytes), Some(key))?.await?;
    transaction.await.map(drop)
}

async fn make_room(database: &Database) -> Result<(), Error> {
    let transaction = database.transaction(&[CELLS], TransactionMode::ReadWrite)?;
    let store = transaction.object_store(CELLS)?;
    if store.count(None)?.await? >= MOST {
        store.clear()?.await?;
    }
    transaction.await.map(drop)
}

//! todo
use crate::plan::question::DataId;
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataInfo { pub id: DataId, pub classes: u32, pub channels: u32, pub height: u32, pub width: u32, pub train_count: u32, pub test_count: u32 }

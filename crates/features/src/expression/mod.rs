//! SQL expressions of the project file: conditions over events, and features made from other features.
//!
//! They are DataFusion expressions, compiled once and evaluated on Arrow batches. Only scalar functions that always give the
//! same answer for the same input are allowed: what an expression says must not depend on when or where it is asked.

mod event;
mod infer;
mod item;
mod row;

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, ExprWithAlias, Ident, VisitMut, VisitorMut};

pub use event::EventCondition;
pub(crate) use event::{Declared, unknown_property};
pub use item::{Asking, ItemExpression, ItemResult};
pub use row::RowExpression;
pub(crate) use row::to_array;

/// What is wrong with an expression: the message and, where there is one, the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// The functions and rules of the query engine; nothing in it changes.
static ENGINE: LazyLock<SessionState> =
    LazyLock::new(|| SessionStateBuilder::new_with_default_features().build());

/// A parsed expression whose column names stand in it literally (`properties.total` is one name).
pub(crate) struct Parsed {
    sql: ExprWithAlias,
    names: Vec<String>,
}

impl Parsed {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let dialect = ENGINE.config().options().sql_parser.dialect;
        let mut sql = ENGINE
            .sql_to_expr_with_alias(text, &dialect)
            .map_err(|error| fault(&error))?;
        if sql.alias.is_some() {
            return Err(Fault::with_hint(
                "an expression has no alias",
                "leave out AS …",
            ));
        }
        let _ = sql.expr.visit(&mut Flatten);
        let mut names: Vec<String> = Vec::new();
        let mut subquery = false;
        let visit = |node: &mut ast::Expr| {
            let name = match node {
                ast::Expr::Identifier(ident) => ident.value.clone(),
                ast::Expr::CompoundIdentifier(parts) => {
                    let parts: Vec<&str> = parts.iter().map(|ident| ident.value.as_str()).collect();
                    parts.join(".")
                }
                ast::Expr::Subquery(_)
                | ast::Expr::Exists { .. }
                | ast::Expr::InSubquery { .. } => {
                    subquery = true;
                    return ControlFlow::<()>::Break(());
                }
                _ => return ControlFlow::Continue(()),
            };
            *node = ast::Expr::Identifier(Ident::with_quote('"', name.clone()));
            if !names.contains(&name) {
                names.push(name);
            }
            ControlFlow::Continue(())
        };
        let _ = ast::visit_expressions_mut(&mut sql.expr, visit);
        if subquery {
            return Err(Fault::new(
                "an expression reads one row and has no subqueries",
            ));
        }
        Ok(Self { sql, names })
    }

    /// The columns that it reads, as they are written, in the order of their appearance.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Renames a column.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let visit = |node: &mut ast::Expr| {
            if let ast::Expr::Identifier(ident) = node
                && ident.value == from
            {
                to.clone_into(&mut ident.value);
            }
            ControlFlow::<()>::Continue(())
        };
        let _ = ast::visit_expressions_mut(&mut self.sql.expr, visit);
        for name in &mut self.names {
            if name == from {
                to.clone_into(name);
            }
        }
    }

    /// After renaming, two names may have become one.
    pub(crate) fn forget_repeated_names(&mut self) {
        let mut kept: Vec<String> = Vec::new();
        for name in self.names.drain(..) {
            if !kept.contains(&name) {
                kept.push(name);
            }
        }
        self.names = kept;
    }

    fn compile(self, columns: Vec<ArrowField>) -> Result<Compiled, Fault> {
        let schema = Arc::new(Schema::new(columns));
        let table = DFSchema::try_from(Arc::clone(&schema)).map_err(|error| fault(&error))?;
        let logical = ENGINE
            .create_logical_expr_from_sql_expr(self.sql, &table)
            .map_err(|error| fault(&error))?;
        check_repeatable(&logical)?;
        let logical = simplified(logical, &table).map_err(|error| fault(&error))?;
        let physical = ENGINE
            .create_physical_expr(logical, &table)
            .map_err(|error| fault(&error))?;
        let result = physical.data_type(&schema).map_err(|error| fault(&error))?;
        Ok(Compiled {
            schema,
            physical,
            result,
        })
    }
}

/// Turns `user.opens` into one name where SQL reads it as the function `user` with a field: some entities have names that are words
/// of SQL.
struct Flatten;

impl VisitorMut for Flatten {
    type Break = ();

    fn pre_visit_expr(&mut self, node: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::CompoundFieldAccess { root, access_chain } = node {
            let root = match root.as_ref() {
                ast::Expr::Identifier(ident) => Some(ident.value.clone()),
                ast::Expr::Function(call) if matches!(call.args, ast::FunctionArguments::None) => {
                    Some(call.name.to_string())
                }
                _ => None,
            };
            let steps: Option<Vec<String>> = access_chain
                .iter()
                .map(|step| match step {
                    ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => Some(ident.value.clone()),
                    _ => None,
                })
                .collect();
            if let (Some(root), Some(steps)) = (root, steps) {
                *node = ast::Expr::Identifier(Ident::with_quote(
                    '"',
                    [vec![root], steps].concat().join("."),
                ));
            }
        }
        ControlFlow::Continue(())
    }
}

/// A compiled expression with the columns that it reads.
#[derive(Debug, Clone)]
struct Compiled {
    schema: SchemaRef,
    physical: Arc<dyn PhysicalExpr>,
    result: DataType,
}

/// Some functions (`coalesce`, `nvl`) exist only as what the simplifier makes of them.
fn simplified(logical: Expr, table: &DFSchema) -> datafusion::error::Result<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(table.clone()))
        .with_config_options(Arc::clone(ENGINE.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let coerced = simplifier.coerce(logical, table)?;
    simplifier.simplify(coerced)
}

fn check_repeatable(expression: &Expr) -> Result<(), Fault> {
    let mut found = None;
    let visited = expression.apply(|node| {
        use datafusion::common::tree_node::TreeNodeRecursion;
        found = match node {
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                Some(Fault::new(format!(
                    "{}() says something else at another time",
                    call.func.name()
                )))
            }
            Expr::AggregateFunction(call) => Some(Fault::with_hint(
                format!(
                    "{}() works on many rows, an expression on one",
                    call.func.name()
                ),
                "declare an aggregate feature and name it here",
            )),
            Expr::WindowFunction(_) => Some(Fault::new(
                "window functions work on many rows, an expression on one",
            )),
            Expr::ScalarVariable(..) | Expr::Placeholder(_) => {
                Some(Fault::new("variables are not known here"))
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    match (visited, found) {
        (Err(error), _) => Err(fault(&error)),
        (Ok(_), Some(found)) => Err(found),
        (Ok(_), None) => Ok(()),
    }
}

/// The query engine's message without its prefixes and internals, on one line.
fn fault(error: &datafusion::error::DataFusionError) -> Fault {
    let text = error.find_root().strip_backtrace();
    let text = text.lines().next().unwrap_or_default();
    let prefixes = [
        "SQL error: ",
        "Error during planning: ",
        "Schema error: ",
        "External error: ",
    ];
    let text = prefixes.iter().fold(text, |text, prefix| {
        text.strip_prefix(prefix).unwrap_or(text)
    });
    Fault::new(text.trim().trim_end_matches('.').to_owned())
}
